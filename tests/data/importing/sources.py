"""Small data sets as users have them: files that tests import."""

import gzip
import io
import struct

import numpy as np
from PIL import Image


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


def image(seed=0, size=(20, 16), channels=3):
  """Returns a smooth image: bytes [height, width, channels]."""
  rng = np.random.default_rng(seed)
  small = Image.fromarray(
      rng.integers(0, 256, [4, 4, channels]).astype(np.uint8).squeeze())
  return np.asarray(small.resize(size[::-1], Image.Resampling.BILINEAR))


def encoded(pixels, image_format='JPEG', **options):
  """Returns an image as a file."""
  content = io.BytesIO()
  pixels = pixels if isinstance(pixels, Image.Image) else Image.fromarray(
      pixels)
  pixels.save(content, image_format, **options)
  return content.getvalue()


def write(path, content):
  """Writes a file and the directories above it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content)


def write_folder(directory, classes=('ant', 'bee', 'cat'), count=10,
                 image_format='JPEG', start=0):
  """Writes a folder for every class, of different images."""
  for number, name in enumerate(classes):
    for index in range(count):
      write(directory / name / f'{index:03d}.{image_format.lower()}', encoded(
          image(start + number * count + index), image_format))
  return directory


def write_masks(directory, count=10, mode='P', size=(20, 16), names=None):
  """Writes images and masks of the classes 0, 1 and 255."""
  for index in range(count):
    name = names(index) if names else f'{index:03d}'
    mask = np.zeros(size, np.uint8)
    mask[:4], mask[-2:, -3:] = 1, 255
    picture = Image.fromarray(mask)
    if mode == 'P':
      picture.putpalette([i // 3 * 37 % 256 for i in range(768)])
    write(directory / 'images' / f'{name}.jpg', encoded(image(index, size)))
    write(directory / 'masks' / f'{name}.png', encoded(picture, 'PNG'))
  return directory
