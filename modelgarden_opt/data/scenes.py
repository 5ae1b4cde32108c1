"""Scenes for semantic segmentation: real digits drawn over real photographs.

Every scene shows a patch of one of the two photographs that scikit-learn ships
with handwritten digits of varied size, colour and contrast on it. Class 0 is
the photograph, class d + 1 the ink of digit d; the seam of the ink, where a
pixel shows both, has the ignore label, as object borders have in Pascal VOC.
Splits share neither digits nor parts of the photographs.
"""

from collections.abc import Iterator
import dataclasses

import numpy as np
from PIL import Image

SIZE = 128
IGNORE = 255
NUM_CLASSES = 11
NUM_SCENES = {'train': 2400, 'validation': 200, 'test': 400}
# Columns of the photographs (640 pixels wide) that a split may use.
_COLUMNS = {'train': (0, 400), 'validation': (400, 500), 'test': (500, 640)}
_DIGIT_SIDE = (40, 76)
_NUM_DIGITS = (2, 4)
_PATCH_SIDE = (64, 140)
_CONTRAST = (60.0, 150.0)
# Shares of ink from which a pixel is a digit, and below which it is not.
_INK, _NO_INK = 0.5, 0.2
_MAX_ATTEMPTS = 20


@dataclasses.dataclass(frozen=True)
class Scene:
  """One image and the class of each of its pixels.

  Attributes:
    image: uint8 array [SIZE, SIZE, 3].
    labels: uint8 array [SIZE, SIZE], 0 to 10 or `IGNORE`.
  """
  image: np.ndarray
  labels: np.ndarray


def scenes(
    digits: np.ndarray,
    classes: np.ndarray,
    photographs: list[np.ndarray],
    split: str,
) -> Iterator[Scene]:
  """Yields the scenes of one split, always the same ones.

  Args:
    digits: Ink of digits in [0, 1], shape [n, height, width].
    classes: The digits, 0 to 9, shape [n].
    photographs: uint8 arrays [height, width, 3].
    split: Key of `NUM_SCENES`.
  """
  rng = np.random.default_rng(list(NUM_SCENES).index(split))
  for _ in range(NUM_SCENES[split]):
    photograph = photographs[rng.integers(len(photographs))]
    image = _patch(photograph, _COLUMNS[split], rng).astype(np.float32)
    labels = np.zeros([SIZE, SIZE], np.uint8)
    occupied = np.zeros([SIZE, SIZE], bool)
    for _ in range(rng.integers(*_NUM_DIGITS, endpoint=True)):
      index = rng.integers(len(digits))
      _draw(image, labels, occupied, digits[index], classes[index] + 1, rng)
    yield Scene(np.round(image).astype(np.uint8), labels)


def _patch(photograph, columns, rng) -> np.ndarray:
  """Returns a square patch of some columns, resized and mirrored at random."""
  left, right = columns
  side = int(rng.integers(_PATCH_SIDE[0], min(_PATCH_SIDE[1], right - left)))
  y = rng.integers(photograph.shape[0] - side)
  x = rng.integers(left, right - side + 1)
  patch = photograph[y:y + side, x:x + side]
  if rng.random() < 0.5:
    patch = patch[:, ::-1]
  return np.asarray(Image.fromarray(np.ascontiguousarray(patch)).resize(
      (SIZE, SIZE), Image.Resampling.BICUBIC))


def _draw(image, labels, occupied, digit, label, rng) -> None:
  """Draws a digit where there is none yet, if such a place is found."""
  side = int(rng.integers(*_DIGIT_SIDE, endpoint=True))
  ink = np.asarray(Image.fromarray(digit.astype(np.float32)).resize(
      (side, side), Image.Resampling.BICUBIC)).clip(0.0, 1.0)
  for _ in range(_MAX_ATTEMPTS):
    y, x = rng.integers(SIZE - side + 1, size=2)
    place = np.s_[y:y + side, x:x + side]
    if not np.any(occupied[place] & (ink > _NO_INK)):
      break
  else:
    return
  covered = ink >= _INK
  if not covered.any():
    return
  ground = image[place][covered].mean(axis=0)
  # Towards the side that has room for the contrast.
  contrast = rng.uniform(*_CONTRAST) * np.where(ground > 127.0, -1.0, 1.0)
  colour = (ground + contrast + rng.normal(0.0, 12.0, 3)).clip(0.0, 255.0)
  image[place] += ink[..., np.newaxis] * (colour - image[place])
  labels[place][covered] = label
  labels[place][(ink > _NO_INK) & ~covered] = IGNORE
  occupied[place] |= ink > _NO_INK
