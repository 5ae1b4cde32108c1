"""Quantized models of every family, and what they compute in float."""

import numpy as np
from official.core import task_factory
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import internals
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling import batch_norm
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory
from tests import conftest
from tests import tiny

layers = tf_keras.layers
IMAGES = conftest.random_images([8, 32, 32, 3])
PER_TENSOR = quantization_cfg.Quantization(weight_granularity='per_tensor')


def backbone(name, **fields):
  """Returns the overrides that choose a backbone."""
  return {'task': {'model': {
      'dropout_rate': 0.0, 'backbone': {'type': name, name: fields}}}}


FAMILIES = {
    'mobilenet_v1': backbone(
        'mobilenet', model_id='MobileNetV1Relu', filter_size_scale=0.25),
    'mobilenet_v2': backbone('mobilenet', model_id='TinyRelu'),
    'mobilenet_v3': backbone('mobilenet', **tiny.SHORT['mobilenet_v3_small']),
    'mobilenet_v4': backbone(
        'mobilenet', **tiny.SHORT['mobilenet_v4_conv_small']),
    'resnet': backbone('resnet', model_id=9, depth_multiplier=0.25),
    'small_cnn': backbone('small_cnn', filters=4),
}


def family(tiny_params, name):
  """Returns a float model whose statistics are those of its activations."""
  model = task_factory.get_task(
      tiny_params('mobilenet_v2', FAMILIES[name]).task).build_model()
  conftest.randomize_norms(model)
  batch_norm.adopt(model, IMAGES)
  return model


def quantized(model, block=PER_TENSOR):
  """Returns the quantized twin of a float model."""
  return factory.compress(model, block)


def functional(outputs_of, shape=(8, 8, 3), block=PER_TENSOR):
  """Returns the quantized twin of a functional model."""
  inputs = tf_keras.Input(shape)
  return quantized(tf_keras.Model(inputs, outputs_of(inputs)), block)


def in_float(model, images=IMAGES, training=False) -> np.ndarray:
  """Returns what a quantized model computes without its quantizers."""
  norms = [layer for layer in internals.layers_of(model)
           if isinstance(layer, layers.BatchNormalization)]
  for norm in norms:
    norm.momentum = 1.0  # Statistics stay, also in training.
  with calibration.quantizer_mode(model, calibration.Mode.PASS_THROUGH):
    return factory.logits(model(images, training=training)).numpy()


def difference(actual, expected) -> float:
  """Returns the largest difference as a share of the largest value."""
  return float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))


def calibrate(model, images=IMAGES):
  calibration.calibrate(
      model, tf.data.Dataset.from_tensors((images, 0)))
