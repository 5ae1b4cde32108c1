"""What is measured: data sets, their configurations, and training steps."""

from collections.abc import Callable
from collections.abc import Iterator
import os
from typing import Any

import numpy as np
from official.core import exp_factory
from official.core import task_factory
from official.modeling import performance
from official.vision import registry_imports as _  # noqa: F401
import tensorflow as tf
import tf_keras

from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.configs import overrides
from modelgarden_opt.data import examples

DIGITS = 'configs/image_classification/digits_mobilenet_v2.yaml'
# As projects/fashion_mnist/mobilenet_v2.yaml trains.
_FASHION_MNIST = {'task': {
    'data': 'fashion_mnist',
    'model': {'input_size': [56, 56, 3], 'backbone': {
        'mobilenet': {'filter_size_scale': 0.35}}},
    'train_data': {'global_batch_size': 128, 'aug_crop': False, 'seed': 1,
                   'random_affine': {'translate': 0.06, 'scale': 0.1}}}}
_NUM_CLASSES = 1001
# Photographs in ImageNet have 500 x 375 pixels on average.
_HEIGHT, _WIDTH = 375, 500
_FILES = 4


def write_photographs(directory: str, count: int) -> str:
  """Writes JPEG records of parts of two photographs; returns their pattern.

  Args:
    directory: Where the files go.
    count: Number of records.
  """
  from sklearn import datasets  # pylint: disable=g-import-not-at-top
  photographs = datasets.load_sample_images().images
  rng = np.random.default_rng(0)
  for file in range(_FILES):
    path = os.path.join(directory, f'train-{file:05d}.tfrecord')
    with tf.io.TFRecordWriter(path) as writer:
      for _ in range(count // _FILES):
        image = photographs[rng.integers(len(photographs))]
        top, left = (rng.integers(1 + image.shape[axis] - size)
                     for axis, size in enumerate((_HEIGHT, _WIDTH)))
        part = image[top:top + _HEIGHT, left:left + _WIDTH]
        writer.write(examples.classification(
            tf.io.encode_jpeg(part, quality=90).numpy(), 'jpeg',
            int(rng.integers(_NUM_CLASSES))))
  return os.path.join(directory, 'train-*.tfrecord')


def _photographs(pattern: str, batch: int, side: int) -> dict[str, Any]:
  return {'task': {
      'model': {'num_classes': _NUM_CLASSES, 'input_size': [side, side, 3]},
      'train_data': {'input_path': pattern, 'global_batch_size': batch,
                     'shuffle_buffer_size': 256}}}


def loaders(pattern: str, batch: int, side: int) -> dict[str, Callable]:
  """Returns functions that make the input of training, by name.

  Args:
    pattern: What `write_photographs` returned.
    batch: Images of a batch.
    side: Height and width to which they are decoded.

  Returns:
    `official`, the Model Garden's task, and `this project`'s.
  """
  values = _photographs(pattern, batch, side)
  made = {'official': exp_factory.get_exp_config('mobilenet_imagenet'),
          'this project': overrides.base('mobilenet_v2')}
  for config in made.values():
    config.override(values)
  return {name: lambda config=config: task_factory.get_task(
      config.task).build_inputs(config.task.train_data)
          for name, config in made.items()}


def configurations(
    pattern: str, batch: int, side: int) -> Iterator[tuple[str, Any]]:
  """Yields the configurations of whole training runs, by name."""
  yield 'digits, 64 pixels', overrides.resolve('mobilenet_v2', [DIGITS], None)
  yield 'Fashion-MNIST, 56 pixels', _of(_FASHION_MNIST)
  yield f'JPEG, {side} pixels', _of(_photographs(pattern, batch, side))


def _of(values: dict[str, Any]):
  return overrides.resolve('mobilenet_v2', [], repr(values))


class Step:
  """A training step of a configuration.

  Attributes:
    task: The task.
  """

  def __init__(self, config, dtype: str = 'float32', compiled: bool = False):
    """Builds the model.

    Args:
      config: The configuration.
      dtype: Of mixed precision.
      compiled: Whether XLA compiles the step.
    """
    policy = tf_keras.mixed_precision.global_policy()
    performance.set_mixed_precision_policy(dtype)
    try:
      self.task = task_factory.get_task(config.task)
      model = self.task.build_model()
      optimizer = tf_keras.optimizers.SGD(1e-4)
      self._function = tf.function(
          lambda batch: self.task.train_step(batch, model, optimizer)[
              self.task.loss], jit_compile=compiled)
    finally:
      tf_keras.mixed_precision.set_global_policy(policy)

  def __call__(self, batch) -> None:
    """Takes the step, and waits for its end."""
    self._function(batch).numpy()
