"""What a `.tflite` file predicts for one's own picture."""

from collections.abc import Sequence
import dataclasses
import os

import numpy as np
from official.vision.ops import preprocess_ops
from PIL import Image
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.evaluation import segmentation
from modelgarden_opt.evaluation import tflite

_OPACITY = 0.55


@dataclasses.dataclass(frozen=True)
class Prediction:
  """Either of a classification or of a segmentation file.

  Attributes:
    ranking: (class, probability), most probable first; empty for segmentation.
    labels: int array [height, width] in the picture's size; None for
      classification.
    picture: The picture as it was read, uint8 [height, width, 3].
  """
  ranking: Sequence[tuple[int, float]]
  labels: np.ndarray | None
  picture: np.ndarray


def predict(tflite_path: str, image_path: str, top_k: int = 5) -> Prediction:
  """Runs a file on a picture.

  For classification the picture is resized as a whole, for segmentation its
  aspect ratio is kept and the rest is padded, as in the Model Garden.

  Args:
    tflite_path: A file that this project (or the Model Garden) wrote.
    image_path: A PNG, JPEG or any other picture that Pillow reads.
    top_k: Length of the ranking.

  Raises:
    UsageError: If one of the files cannot be read.
  """
  model = tflite.Model(tflite_path)
  picture = _read(image_path)
  size = model.input_shape[1:3]
  if len(model.output_shape) == 2:
    image = tf.image.resize(picture, size, method='bilinear')
    logits = model(preprocess_ops.normalize_image(
        image / 255.0)[tf.newaxis].numpy())[0]
    probabilities = tf.nn.softmax(logits).numpy()
    order = np.argsort(-logits, kind='stable')[:top_k]
    return Prediction(
        [(int(i), float(probabilities[i])) for i in order], None, picture)
  image, info = preprocess_ops.resize_and_crop_image(
      preprocess_ops.normalize_image(picture / np.float32(255.0)), size, size)
  outputs = model(image[tf.newaxis].numpy())
  labels = (segmentation.classes(outputs, size) if outputs.ndim == 4
            else outputs)[0]
  # The part that is no padding, back in the picture's own size.
  height, width = np.round(picture.shape[:2] * info[2].numpy()).astype(int)
  labels = np.asarray(Image.fromarray(
      labels[:height, :width].astype(np.uint8)).resize(
          picture.shape[1::-1], Image.Resampling.NEAREST))
  return Prediction([], labels, picture)


def _read(path: str) -> np.ndarray:
  if not os.path.isfile(path):
    raise errors.UsageError(f'image: there is no file {path!r}')
  try:
    with Image.open(path) as image:
      return np.asarray(image.convert('RGB'))
  except OSError as e:
    raise errors.UsageError(f'image: {path!r} is no picture: {e}') from e


def overlay(prediction: Prediction) -> np.ndarray:
  """Returns the picture with every class but 0 in a colour of its own.

  Args:
    prediction: Of a segmentation file.

  Returns:
    uint8 array [height, width, 3].
  """
  shown = prediction.labels > 0
  colours = palette()[prediction.labels]
  mixed = prediction.picture + _OPACITY * (
      colours.astype(np.float32) - prediction.picture)
  return np.where(
      shown[..., np.newaxis], mixed, prediction.picture).astype(np.uint8)


def palette() -> np.ndarray:
  """Returns 256 colours that differ, the Pascal VOC colour map: [256, 3].

  Bit 3k + c of a class number is bit 7 - k of colour channel c.
  """
  numbers = np.arange(256)
  colours = np.zeros([256, 3], np.uint8)
  for k in range(8):
    for channel in range(3):
      bit = (numbers >> (3 * k + channel)) & 1
      colours[:, channel] |= (bit << (7 - k)).astype(np.uint8)
  return colours
