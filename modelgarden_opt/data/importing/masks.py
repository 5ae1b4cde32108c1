"""Images and masks for segmentation: SOURCE/images and SOURCE/masks.

A mask is a palette or grey PNG of the size of its image whose values are the
numbers of classes. It has the name of its image, except for the ending.
"""

from collections.abc import Iterator
import os

import numpy as np
from PIL import Image

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.data.importing import folder
from modelgarden_opt.data.importing import images
from modelgarden_opt.data.importing import source as source_lib
from modelgarden_opt.data.importing import splitting

IMAGES = ('images', 'image', 'JPEGImages', 'img')
MASKS = ('masks', 'mask', 'labels', 'annotations', 'SegmentationClass')
CLASSES = 'classes.txt'
# The value that counts for nothing, in the Model Garden's losses and here.
IGNORED = 255


def read(directory: str) -> source_lib.Source:
  """Returns the images of a directory that have a mask.

  Args:
    directory: Holds `images` and `masks`, or folders of splits that do, or
      `images` and `masks` with folders of splits in them. `classes.txt` names
      the classes, a line each, if it is there.

  Raises:
    UsageError: If there are no such folders or pairs.
  """
  problems, items = [], []
  for split, image_dir, mask_dir in _folders(directory):
    masks, known = {}, set()
    for path in files.below(os.path.join(directory, mask_dir)):
      stem = os.path.splitext(path)[0]
      if stem in masks:
        problems.append(source_lib.Problem(
            os.path.join(mask_dir, path), 'second_of_a_name',
            f'{masks[stem]} has the same name and is taken'))
      masks.setdefault(stem, path)
    for path in files.below(os.path.join(directory, image_dir)):
      name, stem = os.path.join(image_dir, path), os.path.splitext(path)[0]
      if path.endswith('/'):
        continue
      if not folder.is_image(os.path.join(directory, name)):
        problems.append(source_lib.Problem(
            name, 'not_an_image', 'not an image'))
      elif stem in known:
        problems.append(source_lib.Problem(
            name, 'second_of_a_name', 'another image has the same name, except '
            'for the ending, and is taken'))
      elif stem not in masks:
        problems.append(source_lib.Problem(
            name, 'no_mask', f'no mask in {mask_dir}'))
      else:
        known.add(stem)
        mask = os.path.join(directory, mask_dir, masks.pop(stem))
        items.append(source_lib.Item(
            name, os.path.join(directory, name), 0, split, mask=mask))
    problems += [source_lib.Problem(
        os.path.join(mask_dir, path), 'no_image_of_mask',
        f'a mask without an image in {image_dir}') for path in masks.values()]
  if not items:
    raise errors.UsageError(
        f'source: no image with a mask in {directory!r}; expected '
        'images/NAME.jpg and masks/NAME.png')
  return source_lib.Source(source_lib.SEGMENTATION, _classes(directory), items,
                           load, problems)


def load(item: source_lib.Item) -> source_lib.Loaded:
  """Returns the content of an item's image and of its mask."""
  try:
    mask = folder.load_file(item.mask)
  except images.Unusable as e:
    raise images.Unusable(e.kind, f'its mask: {e.text}') from None
  return folder.load_file(item.path), mask


def decode(
    mask: bytes | np.ndarray, size: tuple[int, int], ignore_value: int
) -> np.ndarray:
  """Returns the numbers of classes of an image's pixels, uint8 [h, w].

  Args:
    mask: Content of a file, or an array.
    size: Height and width of the image.
    ignore_value: Value in the file that stands for `IGNORED`.

  Raises:
    Unusable: If it is not a mask of that size.
  """
  if isinstance(mask, bytes):
    try:
      image = images.decode(mask)
    except images.Unusable as e:
      raise images.Unusable('wrong_mask', f'its mask: {e.text}') from None
    mask = _values(image)
  if mask.shape != size:
    raise images.Unusable(
        'wrong_mask', f'its mask has {mask.shape[1]}x{mask.shape[0]} pixels, '
        f'the image {size[1]}x{size[0]}')
  if ignore_value != IGNORED:
    mask = np.where(mask == ignore_value, np.uint8(IGNORED), mask)
  return mask


def _values(image: Image.Image) -> np.ndarray:
  """Returns the values of a mask's pixels: of a palette, its numbers."""
  if image.mode not in ('L', 'P', '1') or image.format != 'PNG':
    raise images.Unusable(
        'wrong_mask', f'its mask is {image.format} of mode {image.mode}; '
        'expected a grey or palette PNG with the numbers of classes')
  return np.asarray(image).astype(np.uint8)


def _folders(directory: str) -> Iterator[tuple[str, str, str]]:
  """Yields split and the folders of images and masks, relative ones."""
  pair = _pair(directory)
  if pair:
    inner = [files.names(os.path.join(directory, name)) for name in pair]
    splits = [name for name in inner[0]
              if splitting.named(name) and name in inner[1]]
    if not splits:
      yield '', *pair
    for name in splits:
      yield (splitting.named(name), *(f'{kind}/{name}' for kind in pair))
    return
  for name in files.names(directory):
    pair = _pair(os.path.join(directory, name))
    if splitting.named(name) and pair:
      yield (splitting.named(name), *(f'{name}/{kind}' for kind in pair))


def _pair(directory: str) -> tuple[str, str] | None:
  present = files.names(directory)
  pair = tuple(next((name for name in kinds if name in present), None)
               for kinds in (IMAGES, MASKS))
  return pair if all(pair) else None


def is_one(directory: str) -> bool:
  """Whether a directory has the folders that `read` expects."""
  return next(_folders(directory), None) is not None


def _classes(directory: str) -> tuple[str, ...]:
  if CLASSES not in files.names(directory):
    return ()
  path = os.path.join(directory, CLASSES)
  try:
    text = files.read_bytes(path).decode('utf-8-sig')
  except UnicodeDecodeError as e:
    raise errors.UsageError(f'{path}: not UTF-8: {e}') from None
  names = tuple(line.strip() for line in text.strip().splitlines())
  if '' in names:
    raise errors.UsageError(
        f'{path}: line {names.index("") + 1} is empty; the number of a line is '
        'the number of its class, from 0')
  return names
