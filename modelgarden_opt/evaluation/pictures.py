"""Reads pictures of any kind as eight-bit RGB, on which models are trained."""

import dataclasses

import numpy as np
from PIL import Image
from PIL import ImageOps

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.data.importing import images

_ORIENTATION = 0x0112
_WHITE = (255, 255, 255)


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture, and what had to be done to it.

  Attributes:
    pixels: uint8 [height, width, 3].
    notes: One line for everything that a user may not expect.
  """
  pixels: np.ndarray
  notes: tuple[str, ...] = ()


def read(path: str) -> Picture:
  """Returns a picture upright, without transparency, in eight bits.

  Args:
    path: A PNG, JPEG, TIFF or any other file that Pillow reads.

  Raises:
    UsageError: If it cannot be read or is too large, or the value of white is
      not known.
  """
  notes = []
  try:
    with files.local(path) as there, Image.open(there) as image:
      if image.width * image.height > images.MAX_PIXELS:
        raise errors.UsageError(
            f'image: {path!r} has {image.width}x{image.height} pixels, must '
            f'have {images.MAX_PIXELS:,} at most')
      frames = getattr(image, 'n_frames', 1)
      if frames > 1:
        image.seek(0)
        notes.append(f'the first of {frames} frames')
      image.load()
      upright = ImageOps.exif_transpose(image)
      if image.getexif().get(_ORIENTATION, 1) != 1:
        notes.append('turned upright as its EXIF orientation says')
      return Picture(_eight_bits(upright, path, notes), tuple(notes))
  except FileNotFoundError:
    raise errors.UsageError(f'image: there is no file {path!r}') from None
  except errors.UsageError:
    raise
  except (OSError, SyntaxError, ValueError, EOFError,
          Image.DecompressionBombError) as e:
    raise errors.UsageError(f'image: {path!r} is not a picture: {e}') from e


def _eight_bits(image: Image.Image, path: str, notes: list[str]) -> np.ndarray:
  """Returns uint8 [height, width, 3] of an image of any mode."""
  if image.mode.startswith('I'):
    return _from_integers(np.asarray(image).astype(np.int64), path, notes)
  if image.mode == 'F':
    raise errors.UsageError(
        f'image: {path!r} holds floating-point values, of which nobody says '
        'what is white; save it with 8 or 16 bits')
  if image.has_transparency_data:
    image = image.convert('RGBA')
    if image.getchannel('A').getextrema()[0] < 255:
      notes.append('transparent parts are shown on white')
    white = Image.new('RGBA', image.size, (*_WHITE, 255))
    image = Image.alpha_composite(white, image)
  return np.asarray(image.convert('RGB'))


def _from_integers(
    values: np.ndarray, path: str, notes: list[str]) -> np.ndarray:
  """Returns grey values of 16 bits as `tf.io.decode_image` would."""
  if values.min() < 0 or values.max() > 65535:
    raise errors.UsageError(
        f'image: {path!r} holds values from {values.min()} to {values.max()}, '
        'of which nobody says what is white; save it with 8 or 16 bits')
  notes.append('16 bits scaled to 8')
  return np.repeat((values >> 8).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
