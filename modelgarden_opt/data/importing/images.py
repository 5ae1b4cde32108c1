"""Opens an image file, and says what is wrong or unusual with it.

The Model Garden's loader reads JPEG and PNG. Such files are never encoded
again; what the loader reads otherwise than a viewer shows it is reported.
"""

from collections.abc import Iterator
import dataclasses
import io
import os
import warnings

import numpy as np
from PIL import Image

# Width times height beyond which an image is not decoded.
MAX_PIXELS = 64_000_000
# Formats that are stored as they are, and what the loader calls them.
_STORED = {'JPEG': 'jpeg', 'MPO': 'jpeg', 'PNG': 'png'}
_ENDINGS = {'jpeg': ('.jpg', '.jpeg', '.jpe', '.jfif', '.mpo'),
            'png': ('.png', '.apng')}
_OTHER_ENDINGS = ('.bmp', '.gif', '.webp', '.tif', '.tiff', '.ppm', '.pgm')
ENDINGS = (*_ENDINGS['jpeg'], *_ENDINGS['png'], *_OTHER_ENDINGS)
_ORIENTATION = 0x0112
# Markers of JPEG: begin of the coded pixels, end of the image.
_JPEG_SCAN, _JPEG_END = 0xda, b'\xff\xd9'
# Place of the bits a channel in a PNG file.
_PNG_DEPTH = 24
_ALPHA = ('alpha', 'an alpha channel, which the loader drops')


class Unusable(Exception):
  """An image cannot be used.

  Attributes:
    kind: A word to count by.
    text: Why.
  """

  def __init__(self, kind: str, text: str):
    super().__init__(text)
    self.kind, self.text = kind, text


@dataclasses.dataclass(frozen=True)
class Picture:
  """An image that was decoded once.

  Attributes:
    content: The file to be stored.
    format: `jpeg` or `png`.
    height: In pixels.
    width: In pixels.
    mean: Of red, green and blue, in [0, 255].
    remarks: (kind, text) of what is unusual.
  """
  content: bytes
  format: str
  height: int
  width: int
  mean: tuple[float, float, float]
  remarks: tuple[tuple[str, str], ...] = ()


def of_array(pixels: np.ndarray) -> Picture:
  """Returns a picture of bytes [h, w] or [h, w, 1, 3 or 4], as a PNG."""
  if pixels.ndim == 3 and pixels.shape[-1] == 1:
    pixels = pixels[..., 0]
  image = Image.fromarray(np.ascontiguousarray(pixels))
  mean = pixels.reshape(-1, len(image.getbands())).mean(axis=0)[:3]
  return Picture(
      _png(image), 'png', image.height, image.width,
      tuple(np.broadcast_to(mean, 3).tolist()),
      (_ALPHA,) if image.mode == 'RGBA' else ())


def of_file(content: bytes, name: str = '') -> Picture:
  """Decodes an image file.

  Args:
    content: Content of the file.
    name: Its name, whose ending should say its format; '' for no name.

  Raises:
    Unusable: If it is not an image, damaged or too large.
  """
  image = decode(content)
  if image.mode == 'F' or image.mode == 'I' and image.format not in (
      'PNG', 'PPM'):
    raise Unusable(
        'wrong_pixels', f'{image.format} of 32 bits a pixel, which nothing '
        'says how to scale; store it with 8 or 16 bits')
  remarks = list(_remarks(image, content, name))
  stored = _STORED.get(image.format)
  if stored is None:
    remarks.append(('converted', f'{image.format}, stored as PNG'))
    content, stored = _png(image), 'png'
  return Picture(content, stored, image.height, image.width, _mean(image),
                 tuple(remarks))


def decode(content: bytes) -> Image.Image:
  """Returns the decoded image of a file.

  Raises:
    Unusable: If it is not an image, damaged or too large.
  """
  if not content:
    raise Unusable('empty', 'the file is empty')
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # About sizes, which are checked here.
    try:
      image = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
      raise Unusable('too_large', _too_large('its pixels')) from None
    except Exception as e:  # Decoders raise whatever they want.
      kind = 'damaged' if looks_like_one('', content) else 'not_an_image'
      raise Unusable(
          kind, f'{kind.replace("_", " ")}: {_reason(e)}') from None
  if image.width * image.height > MAX_PIXELS:
    raise Unusable('too_large', _too_large(f'{image.width}x{image.height}'))
  if not image.width * image.height:
    raise Unusable('damaged', 'an image without pixels')
  try:
    image.load()
    if image.format == 'PNG':  # The loader is stricter than what decodes it.
      Image.open(io.BytesIO(content)).verify()
  except Exception as e:
    raise Unusable('damaged', f'damaged: {_reason(e)}') from None
  if _STORED.get(image.format) == 'jpeg' and not _has_end(content):
    raise Unusable('damaged', 'damaged: the end of the JPEG image is missing')
  return image


def _has_end(content: bytes) -> bool:
  """Whether the marker after the pixels of a JPEG file is there.

  The loader needs it; Pillow does not where zeros stand in its place, as in
  a download that was interrupted. Thumbnails before the pixels have their own.
  """
  place = 2
  while place + 4 <= len(content) and content[place] == 0xff:
    marker = content[place + 1]
    if marker == _JPEG_SCAN:
      break
    # A marker may be preceded by any number of 0xff.
    place += 1 if marker == 0xff else 2 + int.from_bytes(
        content[place + 2:place + 4], 'big')
  return content.find(_JPEG_END, place) >= 0


def looks_like_one(path: str, content: bytes) -> bool:
  """Whether a file may be an image, by its name or its first bytes."""
  if path.lower().endswith(ENDINGS):
    return True
  return content.startswith((b'\xff\xd8\xff', b'\x89PNG', b'GIF8', b'BM')) or (
      content[8:12] == b'WEBP')


def _too_large(size: str) -> str:
  return f'{size} are more than {MAX_PIXELS:,} pixels'


def _reason(error: Exception) -> str:
  text = str(error).split(' <')[0]  # Where in memory it was read from.
  return text or type(error).__name__


def _remarks(
    image: Image.Image, content: bytes, name: str
) -> Iterator[tuple[str, str]]:
  """Yields (kind, text) of what the loader reads in its own way."""
  ending = os.path.splitext(name)[1].lower()
  stored = _STORED.get(image.format)
  other = ending not in _ENDINGS.get(stored, (f'.{image.format}'.lower(),))
  if name and other and (stored or ending in sum(_ENDINGS.values(), ())):
    yield 'wrong_name', f'named {ending or "without an ending"}, but is ' \
        f'{image.format}'
  if image.mode == 'CMYK':
    yield 'cmyk', 'CMYK, which the loader reads as RGB'
  if image.mode.startswith('I') or (
      image.format == 'PNG' and content[_PNG_DEPTH] == 16):
    yield '16_bit', 'more than 8 bits a channel, of which the loader reads 8'
  if image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
    yield _ALPHA
  if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':
    yield 'frames', f'{image.n_frames} frames, of which the first is read'
  orientation = image.getexif().get(_ORIENTATION, 1)
  if orientation not in (0, 1):
    yield 'turned', (f'EXIF orientation {orientation}: viewers turn it, the '
                     'loader does not')


def _mean(image: Image.Image) -> tuple[float, float, float]:
  if image.mode.startswith('I'):
    grey = float(np.asarray(image, np.float64).mean()) / 257.0
    return grey, grey, grey
  counts = np.asarray(image.convert('RGB').histogram(), np.float64)
  red, green, blue = (
      counts.reshape(3, 256) @ np.arange(256.0)) / (image.width * image.height)
  return float(red), float(green), float(blue)


def _png(image: Image.Image) -> bytes:
  content = io.BytesIO()
  if image.mode.startswith('I'):
    image = Image.fromarray(np.asarray(image).astype(np.uint16))
  if image.mode not in ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'):
    image = image.convert('RGB')
  image.save(content, 'PNG')
  return content.getvalue()
