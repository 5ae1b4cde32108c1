"""Small data sets as users have them: files that tests import."""

import gzip
import struct

import numpy as np


def idx_bytes(array):
  """Returns an array of bytes as the content of an IDX file."""
  return struct.pack(f'>HBB{array.ndim}I', 0, 0x08, array.ndim,
                     *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(directory, num_train=120, num_test=20, num_classes=10, size=8):
  """Writes four IDX files, two of them gzipped; returns the arrays by split.
  """
  rng = np.random.default_rng(0)
  directory.mkdir(parents=True, exist_ok=True)
  arrays = {}
  for split, prefix, count in (('train', 'train', num_train),
                               ('test', 't10k', num_test)):
    images = rng.integers(0, 256, [count, size, size]).astype(np.uint8)
    labels = (np.arange(count) % num_classes).astype(np.uint8)
    (directory / f'{prefix}-images-idx3-ubyte.gz').write_bytes(
        gzip.compress(idx_bytes(images)))
    (directory / f'{prefix}-labels-idx1-ubyte').write_bytes(idx_bytes(labels))
    arrays[split] = images, labels
  return arrays
