"""Input configurations resolved to what the official loader reads."""

import math
import os
from typing import Any

from official.core import input_reader
from official.modeling import hyperparams
from official.vision.ops import preprocess_ops
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.configs import image_classification as cfg
from modelgarden_opt.configs import semantic_segmentation
from modelgarden_opt.data import embedded

DataConfig = cfg.DataConfig | semantic_segmentation.DataConfig


def resolve(params: DataConfig) -> DataConfig:
  """Returns a configuration whose embedded data set exists as TFRecords.

  Args:
    params: Input of one split; returned as it is unless it names an embedded
      data set.

  Raises:
    UsageError: If the embedded set or split does not exist.
  """
  name = getattr(params, 'embedded_name', '')
  if not name:
    return params
  if name not in embedded.SETS:
    raise errors.UsageError(
        f'embedded_name: {name!r} is not embedded'
        f'{errors.nearest(name, embedded.SETS)}')
  split = params.embedded_split
  if split not in embedded.SPLITS:
    raise errors.UsageError(
        f'embedded_split: {split!r} is not a split'
        f'{errors.nearest(split, embedded.SPLITS)}')
  directory = embedded.ensure(name, params.embedded_dir, params.source_dir)
  params = params.replace(
      input_path=os.path.join(directory, f'{split}-*.tfrecord'))
  # The embedded images are PNGs.
  return (params.replace(decode_jpeg_only=False)
          if hasattr(params, 'decode_jpeg_only') else params)


def files(params: DataConfig) -> list[str]:
  """Returns the files of a split, of all sets of a mixture; none of TFDS.

  Args:
    params: Input of one split, see `resolve`.

  Raises:
    UsageError: If a pattern matches no file.
  """
  params = resolve(params)
  if not params.input_path:
    return []
  try:
    return matching(params.input_path)
  except ValueError as e:
    raise errors.UsageError(f'input_path: {e}') from None


def matching(input_path: Any) -> list[str]:
  """Returns the files of one data set, or of several that are mixed.

  Args:
    input_path: A pattern, a list of patterns, or a configuration of patterns
      by the name of the set.

  Raises:
    ValueError: If a pattern matches no file.
  """
  mixed = isinstance(input_path, hyperparams.Config)
  patterns = input_path.as_dict().values() if mixed else [input_path]
  return [file for pattern in patterns
          for file in input_reader.match_files(pattern)]


def overlap(a: DataConfig, b: DataConfig) -> bool:
  """Whether two splits read the same records, as far as can be known."""
  if a.tfds_name or b.tfds_name:
    return (a.tfds_name, a.tfds_split) == (b.tfds_name, b.tfds_split)
  try:
    return not {*files(a)}.isdisjoint(files(b))
  except errors.UsageError:  # One is not here, and the other one is read.
    return False


# How evaluation makes an image of a record, by the names of the fields.
_PREPROCESSING = ('aug_crop', 'center_crop_fraction', 'tf_resize_method',
                  'output_size', 'preserve_aspect_ratio', 'centered_crop',
                  'dtype')


def for_calibration(
    params: DataConfig, validation: DataConfig | None = None) -> DataConfig:
  """Returns the training input as evaluation reads it: without augmentation.

  So the exported model's users read theirs.

  Args:
    params: Input of training.
    validation: Input of evaluation, whose preprocessing is taken over; None
      for that of training.
  """
  changed = {
      'is_training': False,
      'deterministic': True,
      'drop_remainder': False,
      'shuffle_buffer_size': 1,
      'cache': False,
      'sharding': False,
      'enable_tf_data_service': False,
      'tf_data_service': '',
      'global_batch_size': min(params.global_batch_size or 32, 64)}
  if hasattr(params, 'mixup_and_cutmix'):
    changed['mixup_and_cutmix'] = None  # Else it mixes images here, too.
  if validation is not None:
    changed.update({
        name: getattr(validation, name) for name in _PREPROCESSING
        if hasattr(params, name) and getattr(validation, name, None)
        not in (None, [], ())})
  return params.replace(**changed)


def augment(
    dataset: tf.data.Dataset,
    params: cfg.RandomAffine,
    seed: int | None,
    first_batch: int = 0,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
  """Shifts, turns and scales every image of every batch at random.

  What happens to an example depends on the seed and on its place in the data
  only, not on the replicas that share a batch or on where a run was resumed.

  Args:
    dataset: Batches of (normalized images [b, h, w, 3], labels).
    params: Largest shift, rotation and scaling.
    seed: Seed of the random numbers, or None.
    first_batch: Number of the first batch of this input pipeline.
    input_context: Distinguishes the pipelines of several workers.
  """
  seed = seed if seed is not None else int.from_bytes(os.urandom(3), 'big')
  context = input_context or tf.distribute.InputContext()
  pipelines = context.num_input_pipelines
  # Each of which makes so many batches for a step.
  parts = max(context.num_replicas_in_sync // pipelines, 1)
  move = _turn if params.rotate else _resample

  def transform(index, batch):
    images, labels = batch
    count, height, width, channels = _sizes(images)
    # Four numbers for each example of the global batch.
    draws = tf.random.stateless_uniform(
        [parts, count, pipelines, 4], (seed, index // parts), -1.0, 1.0)
    draws = draws[index % parts, :, context.input_pipeline_id]
    # Rows of pixels: adding to every third number is slow.
    black = tf.tile(_black(), [width])
    rows = tf.reshape(
        tf.cast(images, tf.float32), [count, height, width * channels]) - black
    moved = move(tf.reshape(rows, [count, height, width, channels]), draws,
                 params)
    rows = tf.reshape(moved, [count, height, width * channels]) + black
    moved = tf.reshape(rows, [count, height, width, channels])
    return tf.cast(moved, images.dtype), labels

  return dataset.enumerate(first_batch).map(
      transform, num_parallel_calls=tf.data.AUTOTUNE)


def _black() -> tf.Tensor:
  """Returns what black becomes by normalization, so that borders stay black."""
  return tf.reshape(preprocess_ops.normalize_image(
      tf.zeros([1, 1, 1, 3]), preprocess_ops.MEAN_RGB,
      preprocess_ops.STDDEV_RGB), [3])


def _resample(
    images: tf.Tensor, draws: tf.Tensor, params: cfg.RandomAffine
) -> tf.Tensor:
  """Scales images about their centres and shifts them; 0 comes from outside.

  A third of the time of `_turn`, which computes each channel's coordinates.
  """
  scale = 1.0 + draws[:, 1:2] * params.scale
  shift = draws[:, 2:4] * params.translate  # [n, (y, x)]
  count, height, width, _ = _sizes(images)
  sides = tf.cast([height, width], tf.float32)
  # A box is given by its corners, as fractions of the way between outer pixels.
  low = 0.5 - 0.5 * scale + shift * sides / tf.maximum(sides - 1.0, 1.0)
  return tf.image.crop_and_resize(
      images, tf.concat([low, low + scale], axis=1), tf.range(count),
      [height, width])


def _turn(
    images: tf.Tensor, draws: tf.Tensor, params: cfg.RandomAffine
) -> tf.Tensor:
  """Turns and scales images about their centres and shifts them."""
  angle = draws[:, 0] * params.rotate * (math.pi / 180.0)
  scale = 1.0 + draws[:, 1] * params.scale
  cos, sin = tf.cos(angle) * scale, tf.sin(angle) * scale
  _, *sides, _ = _sizes(images)
  height, width = tf.unstack(tf.cast(sides, tf.float32))
  center_y, center_x = (height - 1.0) / 2.0, (width - 1.0) / 2.0
  shift_y = draws[:, 2] * params.translate * height
  shift_x = draws[:, 3] * params.translate * width
  zero = tf.zeros_like(cos)
  # Maps output to input pixels: turn and scale about the centre, then shift.
  matrix = tf.stack([
      cos, -sin, center_x - cos * center_x + sin * center_y + shift_x,
      sin, cos, center_y - sin * center_x - cos * center_y + shift_y,
      zero, zero], axis=1)
  return tf.raw_ops.ImageProjectiveTransformV3(
      images=images, transforms=matrix, output_shape=sides,
      fill_value=0.0, interpolation='BILINEAR', fill_mode='CONSTANT')


def _sizes(images: tf.Tensor) -> list[int | tf.Tensor]:
  """Returns batch, height, width, channels: as numbers where they are known.

  TensorFlow logs that it cannot estimate the cost of ops of unknown sizes.
  """
  return [known or size for known, size in zip(
      images.shape, tf.unstack(tf.shape(images)))]
