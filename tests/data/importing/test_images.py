"""Image files are stored as they are; what is wrong or unusual is said."""

import numpy as np
from PIL import Image
import pytest

from modelgarden_opt.data.importing import images
from tests.data.importing import sources

_JPEG = sources.encoded(sources.image())
_ANIMATION = sources.encoded(
    Image.fromarray(sources.image()), 'GIF', save_all=True,
    append_images=[Image.fromarray(sources.image(1))])


def _exif(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  return exif


@pytest.mark.parametrize('content, kind, text', [
    (b'', 'empty', 'empty'), (b'hello', 'not_an_image', 'not an image'),
    (_JPEG[:-20], 'damaged', 'truncated'),
    (_JPEG[:30], 'not_an_image', 'not an image'),
    (b'\x89PNG\r\n\x1a\n' + bytes(40), 'not_an_image', 'not an image')])
def test_what_cannot_be_decoded_is_not_used(content, kind, text):
  with pytest.raises(images.Unusable, match=text) as error:
    images.of_file(content, 'a.jpg')
  assert error.value.kind == kind
  assert '0x' not in error.value.text  # No address in memory.


def test_size_is_checked_before_an_image_is_decoded(monkeypatch):
  monkeypatch.setattr(images, 'MAX_PIXELS', 100)
  content = sources.encoded(sources.image(), 'PNG')
  monkeypatch.setattr(
      Image.Image, 'load', lambda *_: pytest.fail('it was decoded'))
  with pytest.raises(images.Unusable, match='16x20 are more than 100'):
    images.decode(content)


@pytest.mark.parametrize('pixels, options, name, kinds', [
    (sources.image(), {}, 'a.jpg', []),
    (sources.image(), {'image_format': 'PNG'}, 'a.jpg', ['wrong_name']),
    (sources.image(), {}, 'a', ['wrong_name']),
    (Image.fromarray(sources.image()).convert('CMYK'), {}, 'a.jpeg', ['cmyk']),
    (sources.image(channels=4), {'image_format': 'PNG'}, 'a.png', ['alpha']),
    (sources.image(channels=1).astype(np.uint16) * 257,
     {'image_format': 'PNG'}, 'a.png', ['16_bit']),
    (sources.image(), {'exif': _exif(6)}, 'a.JPG', ['turned'])])
def test_files_that_the_loader_reads_are_kept_byte_for_byte(
    pixels, options, name, kinds):
  content = sources.encoded(pixels, **options)
  picture = images.of_file(content, name)
  assert picture.content == content
  assert (picture.height, picture.width) == (20, 16)
  assert [kind for kind, _ in picture.remarks] == kinds


@pytest.mark.parametrize('content, name, kinds', [
    (sources.encoded(sources.image(), 'BMP'), 'a.bmp', ['converted']),
    (sources.encoded(sources.image(), 'WEBP', lossless=True), 'a.webp',
     ['converted']),
    (_ANIMATION, 'a.gif', ['frames', 'converted']),
    (sources.encoded(sources.image(), 'BMP'), 'a.png',
     ['wrong_name', 'converted'])])
def test_other_formats_become_png_without_loss(content, name, kinds):
  picture = images.of_file(content, name)
  assert picture.format == 'png'
  assert [kind for kind, _ in picture.remarks] == kinds
  stored = images.decode(picture.content).convert('RGB')
  np.testing.assert_array_equal(
      stored, images.decode(content).convert('RGB'))


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_the_mean_is_that_of_the_pixels(channels):
  pixels = sources.image(channels=channels)
  expected = pixels.reshape(-1, channels).mean(0)[:3]
  for picture in (images.of_array(pixels),
                  images.of_file(sources.encoded(pixels, 'PNG'))):
    np.testing.assert_allclose(
        picture.mean, np.broadcast_to(expected, 3), rtol=1e-6)
