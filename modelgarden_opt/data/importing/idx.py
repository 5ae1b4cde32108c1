"""IDX files: the format of MNIST and of the sets that followed it.

Source: http://yann.lecun.com/exdb/mnist, "The IDX file format": two zero bytes,
the type of the elements, the number of dimensions, every dimension as a
big-endian 32-bit integer, and then the elements.
"""

from collections.abc import Mapping
import functools
import gzip
import io
import math
import os
import struct
from typing import BinaryIO
import zlib

import numpy as np

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.data.importing import arrays
from modelgarden_opt.data.importing import source as source_lib

# Split of the original files -> what their names begin with.
PREFIXES = {'train': 'train', 'test': 't10k'}
_DTYPES = {0x08: '>u1', 0x09: '>i1', 0x0B: '>i2', 0x0C: '>i4', 0x0D: '>f4',
           0x0E: '>f8'}
# The original names, and those of the first copies of them.
_NAMES = ('{prefix}-{kind}-idx{rank}-ubyte', '{prefix}-{kind}.idx{rank}-ubyte')
_KINDS = {'images': 3, 'labels': 1}
_GZIP = b'\x1f\x8b'
# Bytes of an array, unpacked.
_MAX_BYTES = 2**33


def read(path: str) -> np.ndarray:
  """Returns the array in an IDX file, which may be gzipped.

  Args:
    path: The file.

  Raises:
    UsageError: If it is not an IDX file, or damaged.
  """
  content = files.read_bytes(path)
  file: BinaryIO = io.BytesIO(content)
  if content[:2] == _GZIP:
    file = gzip.GzipFile(fileobj=file)
  try:
    return _array(file)
  except (OSError, EOFError, ValueError, struct.error, zlib.error) as e:
    raise errors.UsageError(
        f'{path!r} is not an IDX file, or damaged: {e}') from None


def _array(file: BinaryIO) -> np.ndarray:
  """Returns the array; reads no more than its head says.

  Raises:
    ValueError: If that is not what is there.
  """
  begin = file.read(4)
  zeros, dtype, rank = struct.unpack('>HBB', begin)
  if zeros or dtype not in _DTYPES or not rank:
    raise ValueError(f'it begins with {begin.hex()}')
  shape = struct.unpack(f'>{rank}I', file.read(4 * rank))
  size = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
  if size > _MAX_BYTES:
    raise ValueError(f'its head says that it holds {list(shape)} elements; at '
                     f'most {_MAX_BYTES:,} bytes are read')
  content = file.read(size)
  if len(content) < size or file.read(1):
    raise ValueError(f'its head says that {size:,} bytes follow, and '
                     f'{"more" if len(content) == size else len(content)} do')
  return np.frombuffer(content, _DTYPES[dtype]).reshape(shape)


def find(directory: str) -> dict[str, dict[str, str]]:
  """Returns the paths of images and labels in a directory, by split.

  Args:
    directory: Where the files are, gzipped or not, by their original names.

  Returns:
    `{'train': {'images': path, 'labels': path}, 'test': {...}}`, without what
    is not there.
  """
  present = {*files.names(directory)}
  found = {}
  for split, prefix in PREFIXES.items():
    paths = {}
    for kind, rank in _KINDS.items():
      names = [name.format(prefix=prefix, kind=kind, rank=rank) + ending
               for ending in ('', '.gz') for name in _NAMES]
      name = next((name for name in names if name in present), None)
      if name:
        paths[kind] = os.path.join(directory, name)
    found[split] = paths
  return found


def missing(found: Mapping[str, Mapping[str, str]]) -> list[str]:
  """Returns the original names of the files that `find` did not find."""
  return [_NAMES[0].format(prefix=prefix, kind=kind, rank=rank) + '[.gz]'
          for split, prefix in PREFIXES.items()
          for kind, rank in _KINDS.items() if kind not in found[split]]


def images_and_labels(
    paths: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the images and the labels of one split.

  Args:
    paths: Paths of `images` and `labels`.

  Returns:
    uint8 grey images [n, height, width] and integer labels [n].

  Raises:
    UsageError: If they do not belong together, or are not images and labels.
  """
  images, labels = read(paths['images']), read(paths['labels'])
  if images.dtype != np.uint8 or images.ndim != 3:
    raise errors.UsageError(
        f'{paths["images"]!r}: expected bytes of 3 dimensions (number, height, '
        f'width), received {images.dtype.name} of shape {images.shape}')
  if labels.dtype.kind not in 'iu' or labels.shape != images.shape[:1]:
    raise errors.UsageError(
        f'{paths["labels"]!r}: expected one integer for each of the '
        f'{len(images)} images, received {labels.dtype.name} of shape '
        f'{labels.shape}')
  return images, labels.astype(np.int64)


def read_directory(directory: str) -> source_lib.Source:
  """Returns the images of a directory with IDX files by their original names.

  Args:
    directory: Where images and labels for training are, and those for tests if
      there are any.

  Raises:
    UsageError: If files are missing or damaged.
  """
  found = {split: paths for split, paths in find(directory).items()
           if paths or split == 'train'}
  absent = [name for name in missing({**find(directory), **found})
            if any(name.startswith(PREFIXES[split]) for split in found)]
  if absent:
    raise errors.UsageError(
        f'source: {directory!r} has no {", ".join(absent)}')
  items, numbers = [], set()
  for split, paths in found.items():
    _, labels = images_and_labels(paths)
    numbers |= {int(label) for label in labels}
    items += [
        source_lib.Item(f'{os.path.basename(paths["images"])}[{i}]',
                        paths['images'], int(label), split, index=i)
        for i, label in enumerate(labels)]
  return arrays.of_numbers(items, numbers, load)


def load(item: source_lib.Item) -> source_lib.Loaded:
  """Returns one image of a file."""
  return _read_once(item.path)[item.index], None


_read_once = functools.lru_cache(maxsize=2)(read)
