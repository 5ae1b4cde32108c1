"""Whether the Model Garden's loader can use a record, found out by ops alone.

The functions return False, or fail, where it cannot; why is for `defects`.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

import tensorflow as tf

from modelgarden_opt.data import examples
from modelgarden_opt.data import labels
from modelgarden_opt.data.importing import images

JPEG, PNG, GIF, BMP = b'\xff\xd8', b'\x89PNG', b'GIF8', b'BM'
# What an op raises. Where its message holds bytes of a record, TensorFlow fails
# to make a text of it.
OP_ERRORS = (tf.errors.OpError, UnicodeDecodeError)
# Bytes of a PNG file up to its width and height, and with them.
_PNG_SIZE, _PNG_START = 16, 24


@dataclasses.dataclass(frozen=True)
class Reading:
  """What the loader reads of a record.

  Attributes:
    images: Number of channels by the feature that holds an encoded image; the
      first one is the image itself.
    jpeg_only: Whether every other format is an error.
    of_pixels: Whether there is a mask, too, of the size of the images.
    rule: Which labels are allowed; None for any.
  """
  images: tuple[tuple[str, int], ...]
  jpeg_only: bool
  of_pixels: bool
  rule: labels.Rule | None

  @property
  def image(self) -> str:
    """The feature that holds the image."""
    return self.images[0][0]


def reading(params: Any, rule: labels.Rule | None) -> Reading:
  """Returns what is read of the records of a split.

  Args:
    params: Input of the split.
    rule: Which labels are allowed; None for any.
  """
  if hasattr(params, 'label_field_key'):
    # Whole images are decoded in any format, whatever the field says.
    return Reading(((params.image_field_key, 3),),
                   bool(params.decode_jpeg_only and params.aug_crop),
                   False, rule)
  features = [params.image_feature, *(params.additional_dense_features or ())]
  return Reading(tuple((f.feature_name, f.num_channels) for f in features),
                 False, True, rule)


def whole(read: Reading) -> Callable[[tf.Tensor], tf.Tensor]:
  """Returns a function that decodes a record: serialized -> whether it is fine.
  """
  return lambda serialized: _of_pixels(serialized, read, True) if (
      read.of_pixels) else _of_image(serialized, read)


def quickly(
    read: Reading, records: tf.data.Dataset, batch: int) -> tf.data.Dataset:
  """Returns, batch by batch, whether records are fine without their pixels.

  Masks are decoded all the same: their pixels are labels.

  Args:
    read: What is read of a record.
    records: Serialized records.
    batch: Size of a batch.

  Returns:
    (whether all of them are fine, how many these are).
  """
  if read.of_pixels:
    fine = records.map(lambda serialized: _of_pixels(serialized, read, False),
                       num_parallel_calls=tf.data.AUTOTUNE).batch(batch)
    return fine.map(lambda fine: (tf.reduce_all(fine), tf.size(fine)))
  return records.batch(batch).map(lambda serialized: (
      _begins_well(serialized, read), tf.size(serialized)))


def _begins_well(serialized: tf.Tensor, read: Reading) -> tf.Tensor:
  """Whether a batch [b] has allowed labels and contents of known formats."""
  parsed = tf.io.parse_example(serialized, {
      read.image: tf.io.FixedLenFeature((), tf.string), **_label(read)})
  content = parsed[read.image]
  png = _begins(content, PNG)
  size = tf.io.decode_raw(tf.strings.substr(
      tf.where(png, content, b'\0' * _PNG_START), _PNG_SIZE, 8),
                          tf.int32, little_endian=False)
  pixels = tf.reduce_prod(tf.cast(size, tf.int64), axis=-1)
  right = _begins(content, JPEG)
  if not read.jpeg_only:
    right |= _begins(content, BMP) | (
        png & (pixels > 0) & (pixels <= images.MAX_PIXELS))
  return tf.reduce_all(right) & _allowed(parsed, read.rule)


def _of_image(serialized: tf.Tensor, read: Reading) -> tf.Tensor:
  """Whether a record has an allowed label and an image that can be decoded."""
  parsed = tf.io.parse_example(serialized[tf.newaxis], {
      read.image: tf.io.FixedLenFeature((), tf.string), **_label(read)})
  content = parsed[read.image][0]
  right = _allowed(parsed, read.rule) & _decodes(content, read.images[0][1])
  return right & _begins(content, JPEG) if read.jpeg_only else right


def _of_pixels(
    serialized: tf.Tensor, read: Reading, decoding: bool) -> tf.Tensor:
  """Whether a mask has allowed labels, and all images its size.

  Args:
    serialized: The record.
    read: What is read of it.
    decoding: Whether images are decoded, or only their headers read.
  """
  parsed = tf.io.parse_single_example(serialized, {
      key: tf.io.FixedLenFeature((), kind) for key, kind in (
          *((key, tf.string) for key, _ in read.images),
          (examples.MASK, tf.string), (examples.HEIGHT, tf.int64),
          (examples.WIDTH, tf.int64))})
  size = tf.stack([parsed[examples.HEIGHT], parsed[examples.WIDTH]])
  encoded = parsed[examples.MASK]
  right = tf.reduce_all(_header_size(encoded) == size)
  for key, channels in read.images:
    content = parsed[key]
    right &= tf.reduce_all(_header_size(content) == size)
    if decoding:
      right &= _decodes(content, channels)
    else:
      right &= _is_small(_header_size(content))

  def allowed():
    mask = tf.io.decode_image(encoded, channels=1)
    return tf.constant(True) if read.rule is None else tf.reduce_all(
        read.rule.allows(tf.cast(mask, tf.int32)))

  return tf.cond(right, allowed, lambda: False)


def _label(read: Reading) -> Mapping[str, tf.io.RaggedFeature]:
  return {} if read.rule is None else {
      read.rule.key: tf.io.RaggedFeature(tf.int64)}


def _allowed(
    parsed: Mapping[str, tf.Tensor], rule: labels.Rule | None) -> tf.Tensor:
  """Whether all labels of a batch are allowed, and there is one an image."""
  if rule is None:
    return tf.constant(True)
  values = parsed[rule.key]
  right = tf.reduce_all(rule.allows(values.flat_values))
  return right if rule.multiple else right & tf.reduce_all(
      values.row_lengths() == 1)


def _begins(content: tf.Tensor, start: bytes) -> tf.Tensor:
  return tf.strings.substr(content, 0, len(start)) == start


def _decodes(content: tf.Tensor, channels: int) -> tf.Tensor:
  """Whether an image of a permitted size can be decoded to [h, w, channels]."""
  return tf.cond(
      _is_small(_header_size(content)),
      lambda: tf.size(tf.io.decode_image(
          content, channels=channels, expand_animations=False)) > 0,
      lambda: False)


def _is_small(size: tf.Tensor) -> tf.Tensor:
  """Whether a size [height, width] has pixels, and not too many of them."""
  pixels = tf.reduce_prod(size)
  return (pixels > 0) & (pixels <= images.MAX_PIXELS)


def _header_size(content: tf.Tensor) -> tf.Tensor:
  """Returns [height, width], int64, of a JPEG, PNG or BMP file; else [0, 0].

  Of GIF and WebP files the loader makes films, [frames, h, w, 3].
  """
  def of_png():
    return _integers(content, _PNG_SIZE, little_endian=False)

  def of_bmp():
    return tf.abs(_integers(content, 18, little_endian=True)[::-1])

  return tf.cond(
      _begins(content, JPEG), lambda: tf.cast(
          tf.image.extract_jpeg_shape(content)[:2], tf.int64),
      lambda: tf.cond(
          _begins(content, PNG), lambda: of_png()[::-1],
          lambda: tf.cond(_begins(content, BMP), of_bmp,
                          lambda: tf.zeros([2], tf.int64))))


def _integers(
    content: tf.Tensor, place: int, little_endian: bool) -> tf.Tensor:
  """Returns two integers of 4 bytes each, as int64."""
  found = tf.io.decode_raw(tf.strings.substr(content, place, 8), tf.int32,
                           little_endian=little_endian)
  return tf.cast(tf.ensure_shape(found, [2]), tf.int64)
