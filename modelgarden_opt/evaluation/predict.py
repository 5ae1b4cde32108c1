"""What a `.tflite` file predicts for a picture."""

from collections.abc import Sequence
import dataclasses
import os

import numpy as np
from official.vision.ops import preprocess_ops
from PIL import Image
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.evaluation import apart
from modelgarden_opt.evaluation import pictures
from modelgarden_opt.evaluation import segmentation
from modelgarden_opt.tasks import run_directory

_OPACITY = 0.55


@dataclasses.dataclass(frozen=True)
class Prediction:
  """Either of a classification or of a segmentation file.

  Attributes:
    ranking: (class, probability), most probable first; empty for segmentation.
    labels: int array [height, width] in the picture's size; None for
      classification.
    picture: The picture as it was read, uint8 [height, width, 3].
    notes: What was done to the picture.
    num_classes: Number of classes, None if the file does not show it.
  """
  ranking: Sequence[tuple[int, float]]
  labels: np.ndarray | None
  picture: np.ndarray
  notes: Sequence[str] = ()
  num_classes: int | None = None


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """How a picture of another shape becomes the input of a classifier.

  Attributes:
    crop_fraction: Side of the central square that is kept, as a share of the
      shorter side of the picture; None keeps the whole picture.
    resize_method: Of `tf.image.resize`.
  """
  crop_fraction: float | None
  resize_method: str = 'bilinear'

  def __call__(
      self, picture: np.ndarray | tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Returns the input, float32 [*size, 3], as the Model Garden evaluates.

    Args:
      picture: uint8 [height, width, 3]; inside of a graph of any size.
      size: Height and width of the input.
    """
    image, sides = tf.convert_to_tensor(picture), list(picture.shape[:2])
    # A side of one pixel has no middle.
    if self.crop_fraction is not None and (None in sides or min(sides) > 1):
      image = preprocess_ops.center_crop_image(image, self.crop_fraction)
    image = tf.image.resize(image, size, method=self.resize_method)
    return preprocess_ops.normalize_image(
        image, preprocess_ops.MEAN_RGB, preprocess_ops.STDDEV_RGB)


def preprocessing_of(model_dir: str) -> Preprocessing | None:
  """Returns how a run evaluates pictures, None unless it classifies.

  Args:
    model_dir: A run directory.

  Raises:
    UsageError: If it is not a run directory.
  """
  task = run_directory.load_yaml(model_dir).get('task', {})
  data = task.get('test_data') or task.get('validation_data') or {}
  if 'aug_crop' not in data:
    return None
  fraction = data.get(
      'center_crop_fraction', preprocess_ops.CENTER_CROP_FRACTION)
  return Preprocessing(fraction if data['aug_crop'] else None,
                       data.get('tf_resize_method', 'bilinear'))


def _usual_preprocessing(
    picture: np.ndarray, size: Sequence[int]) -> Preprocessing:
  """Returns the Model Garden's default; shapes that fit need no crop."""
  (height, width), (rows, columns) = picture.shape[:2], size
  if abs(height * columns - width * rows) < max(rows, columns):
    return Preprocessing(None)
  return Preprocessing(preprocess_ops.CENTER_CROP_FRACTION)


def predict(
    tflite_path: str,
    image_path: str,
    top_k: int = 5,
    preprocessing: Preprocessing | None = None,
) -> Prediction:
  """Runs a file on a picture, preprocessed as the Model Garden evaluates.

  For classification that is a central square, resized. For segmentation the
  aspect ratio is kept and the rest is padded.

  Args:
    tflite_path: A file that this project (or the Model Garden) wrote.
    image_path: A picture, see `pictures.read`.
    top_k: Length of the ranking.
    preprocessing: For classification; None for that of the run beside the
      file, and without a run for the Model Garden's default.

  Raises:
    UsageError: If one of the files cannot be read.
  """
  with apart.Model(tflite_path) as model:
    if len(model.input_shape) != 4:
      raise errors.UsageError(
          f'tflite: the input of {tflite_path!r} is no image but of shape '
          f'{[*map(int, model.input_shape)]}, must be [n, height, width, '
          'channels]')
    picture = pictures.read(image_path)
    if len(model.output_shape) == 2:
      return _classify(model, picture, top_k, preprocessing)
    return _segment(model, picture)


def _classify(
    model: apart.Model,
    picture: pictures.Picture,
    top_k: int,
    preprocessing: Preprocessing | None,
) -> Prediction:
  size, pixels = model.input_shape[1:3], picture.pixels
  directory = os.path.dirname(model.path) or '.'
  if preprocessing is None and run_directory.exists(directory):
    preprocessing = preprocessing_of(directory)
  preprocessing = preprocessing or _usual_preprocessing(pixels, size)
  notes = list(picture.notes)
  if preprocessing.crop_fraction is not None:
    notes.append(f'the central square, {preprocessing.crop_fraction:.1%} of '
                 'the shorter side, as in evaluation')
  logits = model(preprocessing(pixels, size)[tf.newaxis].numpy())[0]
  probabilities = tf.nn.softmax(logits).numpy()
  order = np.argsort(-logits, kind='stable')[:top_k]
  return Prediction([(int(i), float(probabilities[i])) for i in order], None,
                    pixels, notes, len(logits))


def _segment(
    model: apart.Model, picture: pictures.Picture) -> Prediction:
  size, pixels = model.input_shape[1:3], picture.pixels
  image, info = preprocess_ops.resize_and_crop_image(
      preprocess_ops.normalize_image(pixels / np.float32(255.0)), size, size)
  outputs = model(image[tf.newaxis].numpy())
  labels = (segmentation.classes(outputs, size) if outputs.ndim == 4
            else outputs)[0]
  # The part that is not padding, back in the picture's own size.
  height, width = np.round(pixels.shape[:2] * info[2].numpy()).astype(int)
  labels = np.asarray(Image.fromarray(
      labels[:height, :width].astype(np.uint8)).resize(
          pixels.shape[1::-1], Image.Resampling.NEAREST))
  return Prediction([], labels, pixels, picture.notes,
                    outputs.shape[-1] if outputs.ndim == 4 else None)


def name_classes(
    names: Sequence[str], found: Prediction) -> list[str]:
  """Returns the names if they can be those of a prediction's classes.

  Raises:
    UsageError: If their number is not that of the classes.
  """
  shown = [i for i, _ in found.ranking]
  if found.labels is not None:
    shown.append(int(found.labels.max()))
  enough = (len(names) > max(shown) if found.num_classes is None
            else len(names) == found.num_classes)
  if not enough:
    raise errors.UsageError(
        f'labels: {len(names)} names for '
        f'{found.num_classes or f"at least {max(shown) + 1}"} classes')
  return list(names)


def overlay(prediction: Prediction) -> np.ndarray:
  """Returns the picture with every class but 0 in a different colour.

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
