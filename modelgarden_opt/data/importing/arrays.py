"""Arrays of images and labels: an .npz file, or a directory of .npy files."""

from collections.abc import Mapping
import functools
import io
import os

import numpy as np

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.data.importing import source as source_lib
from modelgarden_opt.data.importing import splitting

_IMAGES = ('x', 'images', 'image', 'data')
# More classes without an image are not listed as such: these are no classes.
_MAX_MISSING = 10_000
_LABELS = ('y', 'labels', 'label', 'targets')


def read(path: str) -> source_lib.Source:
  """Returns the images of arrays such as x_train, y_train, x_test, y_test.

  Args:
    path: An .npz file, or a directory of .npy files. Arrays are called `x` or
      `images` and `y` or `labels`, with the name of a split before or after it
      and a `_` between, or without one.

  Raises:
    UsageError: If arrays are missing or do not belong together, or images are
      no bytes.
  """
  pairs = _pairs(path, _keys(path))
  items, found = [], set()
  for split, (image_key, label_key) in pairs.items():
    images, labels = _array(path, image_key), _array(path, label_key)
    _check(path, (image_key, images), (label_key, labels))
    labels = labels.reshape(-1)
    found |= {int(label) for label in labels}
    items += [source_lib.Item(f'{image_key}[{i}]', path, int(label), split,
                              image_key, i)
              for i, label in enumerate(labels)]
  return of_numbers(items, found, load)


def of_numbers(items, labels, load) -> source_lib.Source:  # pylint: disable=redefined-outer-name
  """Returns a source whose labels are numbers from 0, named as such.

  Raises:
    UsageError: If a number is missing or negative, or there is only one.
  """
  if not labels:
    raise errors.UsageError('source: there is no image to train with')
  path = items[0].path
  if min(labels) < 0:
    raise errors.UsageError(
        f'labels: must be integers from 0, received {min(labels)} in {path!r}')
  missing = max(labels) + 1 - len(labels)
  if missing > _MAX_MISSING:
    raise errors.UsageError(
        f'labels: go up to {max(labels)} in {path!r}, but {missing:,} of these '
        'numbers have no image; must be numbers of classes from 0')
  classes = tuple(str(number) for number in range(max(labels) + 1))
  splitting.assert_classes(path, classes, labels)
  return source_lib.Source(source_lib.CLASSIFICATION, classes, items, load)


def load(item: source_lib.Item) -> source_lib.Loaded:
  """Returns one image of an array."""
  return _array(item.path, item.key)[item.index], None


@functools.lru_cache(maxsize=4)
def _array(path: str, key: str) -> np.ndarray:
  name = path if path.endswith('.npz') else os.path.join(path, f'{key}.npy')
  try:
    if path.endswith('.npz'):
      with np.load(io.BytesIO(files.read_bytes(path))) as arrays:
        # What does not begin as an array does is returned as bytes.
        if isinstance(array := arrays[key], np.ndarray):
          return array
        raise ValueError(f'{key} is no array')
    if '://' in name:
      return np.load(io.BytesIO(files.read_bytes(name)))
    return np.load(name, mmap_mode='r')
  except Exception as e:  # zipfile, zlib and numpy raise what they want.
    raise errors.UsageError(
        f'{name!r} cannot be read as an array: {e}') from None


def _keys(path: str) -> list[str]:
  if not path.endswith('.npz'):
    return [name.removesuffix('.npy') for name in files.names(path)
            if name.endswith('.npy')]
  try:
    with np.load(io.BytesIO(files.read_bytes(path))) as arrays:
      return list(arrays.files)
  except Exception as e:
    raise errors.UsageError(f'{path!r} is not an .npz file: {e}') from None


def _pairs(path: str, keys: list[str]) -> Mapping[str, tuple[str, str]]:
  """Returns the names of images and labels by split, '' for a single pair."""
  found: dict[str, dict[str, str]] = {}
  for key in keys:
    words = key.lower().split('_')
    split = next((s for s in map(splitting.named, words) if s), '')
    rest = [word for word in words if not splitting.named(word)]
    for kind, names in (('images', _IMAGES), ('labels', _LABELS)):
      if len(rest) == 1 and rest[0] in names:
        found.setdefault(split, {})[kind] = key
  pairs = {split: (kinds['images'], kinds['labels'])
           for split, kinds in found.items() if len(kinds) == 2}
  if not pairs or len(pairs) < len(found):
    raise errors.UsageError(
        f'{path!r}: expected arrays such as x_train and y_train, or images and '
        f'labels, always both; received {", ".join(keys) or "none"}')
  return {split: pairs[split] for split in ('', *splitting.SPLITS)
          if split in pairs}


def _check(path, images, labels) -> None:
  """Checks (name, array) of images and of labels."""
  (image_key, images), (label_key, labels) = images, labels
  shape = images.shape
  if images.dtype != np.uint8 or images.ndim not in (3, 4) or (
      images.ndim == 4 and shape[-1] not in (1, 3, 4)) or 0 in shape:
    raise errors.UsageError(
        f'{path!r}: {image_key} must be uint8 of shape [n, height, width] or '
        f'[n, height, width, 1, 3 or 4], received {images.dtype.name} of shape '
        f'{list(shape)}; other values are not rounded silently: convert them')
  if labels.dtype.kind not in 'iu' or labels.size != len(images) or (
      labels.shape[0] != len(images)):
    raise errors.UsageError(
        f'{path!r}: {label_key} must hold one integer for each of the '
        f'{len(images)} images of {image_key}, received {labels.dtype.name} of '
        f'shape {list(labels.shape)}')
