"""The three models of the comparison: float, this project's QAT, the peer's.

The peer is imported first: both register the Model Garden's experiment names,
and this project's aliases give way.
"""

import gc
import os
import time

import numpy as np
from official.core import exp_factory
from official.core import task_factory
from official.projects.qat.vision.configs import common as peer_common
from official.projects.qat.vision.modeling import factory as peer_factory
import tensorflow as tf
import tf_keras

from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import batch_norm
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory

FAMILIES = (
    'mobilenet_v2', 'mobilenet_v3_large', 'mobilenet_multi_avg', 'resnet50')
NAMES = ('float', 'qat', 'peer')


class Variants:
  """Builds the models of one family and takes their training steps."""

  def __init__(self, family: str, image_size: int):
    """Prepares the task.

    Args:
      family: One of `FAMILIES`.
      image_size: Side of the images in pixels.
    """
    config = exp_factory.get_exp_config(family)
    config.task.model.input_size = [image_size, image_size, 3]
    self.task = task_factory.get_task(config.task)
    self.models: dict[str, tf_keras.Model] = {}

  def build(self, name: str) -> float:
    """Builds one model and returns the seconds it took.

    The quantized models are built from the built float model, with its
    weights in them.
    """
    gc.collect()
    start = time.perf_counter()
    if name == 'float':
      self.models[name] = self.task.build_model()
    elif name == 'qat':
      self.models[name] = factory.compress(
          self.models['float'], quantization_cfg.Quantization())
    else:
      config = self.task.task_config
      decay = config.losses.l2_weight_decay
      self.models[name] = peer_factory.build_qat_classification_model(
          self.models['float'],
          peer_common.Quantization(),
          input_specs=tf_keras.layers.InputSpec(
              shape=[None, *config.model.input_size]),
          model_config=config.model,
          l2_regularizer=tf_keras.regularizers.l2(decay / 2.0))
    return time.perf_counter() - start

  def batch(self, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns random images and labels."""
    rng = np.random.default_rng(0)
    shape = [size, *self.task.task_config.model.input_size]
    return (tf.constant(rng.normal(size=shape).astype(np.float32)),
            tf.constant(rng.integers(0, 1000, size)))

  def train_step(self, name: str):
    """Returns the traced-on-first-call training step of one model."""
    model, optimizer = self.models[name], tf_keras.optimizers.SGD(1e-4)
    return tf.function(lambda images, labels: self.task.train_step(
        (images, labels), model, optimizer)[self.task.loss])

  def convert(self, name: str, directory: str) -> tuple[str, float]:
    """Writes one `.tflite` file; returns its path and the seconds it took.

    Args:
      name: `float32`, `ptq`, `qat` or `peer`.
      directory: Where the file goes.
    """
    images = self.batch(8)[0]
    self.adapt_norms(images)
    if name == 'qat':
      data = tf.data.Dataset.from_tensors((images, 0))
      calibration.calibrate(self.models['qat'], data)
    start = time.perf_counter()
    if name == 'peer':
      converter = tf.lite.TFLiteConverter.from_keras_model(self.models['peer'])
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
      content = converter.convert()
    else:
      content = convert.convert(
          self.models['qat' if name == 'qat' else 'float'],
          'float32' if name == 'float32' else 'int8',
          representative=lambda: (i[np.newaxis] for i in images.numpy()))
    seconds = time.perf_counter() - start
    path = os.path.join(directory, f'{name}.tflite')
    with open(path, 'wb') as f:
      f.write(content)
    return path, seconds

  def adapt_norms(self, images: tf.Tensor) -> None:
    """Gives batch norms the images' statistics, as training would.

    With those of initialization the activations of a deep model vanish, and
    runtimes are not made for ranges of 1e-9.
    """
    for model in self.models.values():
      batch_norm.adopt(model, images)


def peak_memory_mib(
    family: str, name: str, image_size: int, batch_size: int) -> float:
  """Returns the peak memory of this process after three steps of one model."""
  variants = Variants(family, image_size)
  variants.build('float')
  if name != 'float':
    variants.build(name)
    del variants.models['float']
  step = variants.train_step(name)
  for _ in range(3):
    step(*variants.batch(batch_size)).numpy()
  # Not `ru_maxrss`: that of a child starts at what its parent had at the fork.
  with open('/proc/self/status', encoding='utf-8') as f:
    peak = next(line for line in f if line.startswith('VmHWM'))
  return int(peak.split()[1]) / 1024
