"""Image files are stored as they are; what is wrong or unusual is said."""

import io

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

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
    (_JPEG[:30], 'damaged', 'damaged'),
    (b'\x89PNG\r\n\x1a\n' + bytes(40), 'damaged', 'damaged')])
def test_what_cannot_be_decoded_is_not_used(content, kind, text):
  with pytest.raises(images.Unusable, match=text) as error:
    images.of_file(content, 'a.jpg')
  assert error.value.kind == kind
  assert '0x' not in error.value.text  # No address in memory.


def _tiff(array):
  return sources.encoded(Image.fromarray(array), 'TIFF')


@pytest.mark.parametrize('content', [
    _tiff(np.full([8, 8], 30_000, np.int32)),
    _tiff(np.full([8, 8], 0.5, np.float32))])
def test_pixels_of_unknown_scale_are_not_clipped_but_left_out(content):
  with pytest.raises(images.Unusable, match='TIFF of 32 bits') as error:
    images.of_file(content, 'a.tif')
  assert error.value.kind == 'wrong_pixels'


@pytest.mark.parametrize('content', [
    _tiff(np.full([8, 8], 30_000, np.uint16)),
    sources.encoded(Image.frombytes(
        'I;16B', (8, 8), np.full([8, 8], 30_000, '>u2').tobytes()), 'TIFF'),
    b'P5 8 8 65535\n' + np.full([8, 8], 30_000, '>u2').tobytes()])
def test_16_bits_are_kept(content):
  picture = images.of_file(content)
  assert [kind for kind, _ in picture.remarks] == ['16_bit', 'converted']
  stored = tf.io.decode_png(picture.content, dtype=tf.uint16).numpy()
  assert np.unique(stored).tolist() == [30_000]
  assert picture.mean == pytest.approx([30_000 / 257] * 3)


def test_16_bits_a_channel_of_a_colour_image_are_reported():
  for channels, kinds in ((3, ['16_bit']), (4, ['16_bit', 'alpha'])):
    content = tf.io.encode_png(np.zeros([8, 8, channels], np.uint16)).numpy()
    assert [kind for kind, _ in images.of_file(content).remarks] == kinds


def test_a_png_that_only_one_decoder_accepts_is_damaged():
  content = sources.encoded(sources.image(), 'PNG')[:-16]
  Image.open(io.BytesIO(content)).load()
  with pytest.raises(images.Unusable, match='damaged'):
    images.of_file(content)


@pytest.mark.parametrize('options', [
    {}, {'exif': _exif(1).tobytes() + b'\xff\xd9'}])
def test_a_jpeg_whose_end_is_zeros_is_damaged(options):
  whole = sources.encoded(sources.image(), 'JPEG', **options)
  assert images.of_file(whole).format == 'jpeg'
  content = whole[:-2] + bytes(64)
  Image.open(io.BytesIO(content)).load()
  with pytest.raises(tf.errors.InvalidArgumentError):
    tf.io.decode_jpeg(content)
  with pytest.raises(images.Unusable, match='end of the JPEG') as error:
    images.of_file(content)
  assert error.value.kind == 'damaged'


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
