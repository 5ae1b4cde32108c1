"""Serialized examples in the Model Garden's formats."""

from collections.abc import Mapping
import io

import numpy as np
from PIL import Image
import tensorflow as tf

# Features of a record.
IMAGE, FORMAT = 'image/encoded', 'image/format'
LABEL, MASK = 'image/class/label', 'image/segmentation/class/encoded'
HEIGHT, WIDTH = 'image/height', 'image/width'


def classification(encoded: bytes, image_format: str, label: int) -> bytes:
  """Returns an example of image classification.

  Args:
    encoded: The image as a file.
    image_format: `jpeg` or `png`.
    label: Number of its class.
  """
  return serialize({
      IMAGE: encoded, FORMAT: image_format.encode(), LABEL: label})


def segmentation(encoded: bytes, mask: np.ndarray) -> bytes:
  """Returns an example of semantic segmentation.

  Args:
    encoded: The image as a file.
    mask: uint8 array [height, width] with the class of every pixel.
  """
  height, width = mask.shape
  return serialize({
      IMAGE: encoded, HEIGHT: height, WIDTH: width, MASK: png(mask)})


def png(image: np.ndarray) -> bytes:
  """Returns an image of bytes, [h, w] or [h, w, 3], as a PNG file."""
  content = io.BytesIO()
  Image.fromarray(image).save(content, 'PNG')
  return content.getvalue()


def serialize(features: Mapping[str, bytes | int]) -> bytes:
  """Returns an example of features that have one value each."""
  return tf.train.Example(features=tf.train.Features(feature={
      name: _feature(value) for name, value in features.items()
  })).SerializeToString(deterministic=True)


def _feature(value: bytes | int) -> tf.train.Feature:
  if isinstance(value, bytes):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
  return tf.train.Feature(
      int64_list=tf.train.Int64List(value=[int(value)]))
