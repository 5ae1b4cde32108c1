"""Channels that batch norm multiplies by nothing, in Keras and in a file."""

import numpy as np
import pytest
import tf_keras

from modelgarden_opt.compression.quantization import quantizers
from modelgarden_opt.configs import quantization
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.export import verification
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory
from tests import conftest
from tests.modeling.equalization import models

layers = tf_keras.layers
_IMAGES = conftest.random_images([8, 12, 12, 3])
# Of the first channels: exact zeros, and what is left of decayed weights.
_GAMMA, _BETA = [0.0, 0.0, 1e-30, -1e-30, 1e-5], [0.0, 0.4, 0.0, 0.4, 0.4]


@pytest.fixture(scope='module')
def dead():
  """Returns a float model with dead channels in every batch norm."""
  inputs = tf_keras.Input([12, 12, 3])
  x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3)(inputs)))
  x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3)(x)))
  x = layers.BatchNormalization()(x)  # Stands alone.
  x = layers.BatchNormalization()(layers.Conv2D(16, 1)(x))
  model = tf_keras.Model(
      inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
  conftest.randomize_norms(model)
  for layer in model.layers:
    if isinstance(layer, layers.BatchNormalization):
      for variable, values in ((layer.gamma, _GAMMA), (layer.beta, _BETA)):
        variable.assign(np.r_[values, variable.numpy()[len(values):]])
  return model


def _quantized(model):
  twin = factory.compress(model, quantization.Quantization())
  models.calibrate(twin, _IMAGES)
  return twin


def test_a_file_of_dead_channels_computes_what_keras_computes(dead, tmp_path):
  twin = _quantized(dead)
  expected = twin(_IMAGES, training=False).numpy()
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(twin, 'int8'))
  assert not census.take(str(path)).float_ops
  file = litert_model.Model(str(path))
  assert np.max(np.abs(file(_IMAGES) - expected)) <= 2.01 * file.output_scale
  floats = dead(_IMAGES, training=False).numpy()
  assert conftest.sqnr_db(floats, expected) > 25


@pytest.fixture
def dead_branch():
  """Returns a twin of a layer that makes zeros, and of weights that decayed."""
  inputs = tf_keras.Input([12, 12, 3])
  x = layers.Conv2D(
      4, 3, activation='relu', bias_initializer=_constant(-100.0))(inputs)
  x = layers.Conv2D(
      8, 1, kernel_initializer=_constant(1e-9),
      bias_initializer=_constant(3.0))(x)
  model = tf_keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
  return _quantized(model)


def _constant(value):
  return tf_keras.initializers.Constant(value)


def _file(twin, path):
  path.write_bytes(convert.convert(twin, 'int8'))
  return litert_model.Model(str(path)), inspection.kernels(str(path))


def test_a_dead_layer_leaves_the_next_biases_room(dead_branch, tmp_path):
  for _ in range(300):  # If the range shrank, 0.05 of it would be left.
    dead_branch(_IMAGES, training=True)
  expected = dead_branch(_IMAGES, training=False).numpy()
  np.testing.assert_allclose(expected, 3.0, atol=0.02)
  file, kernels = _file(dead_branch, tmp_path / 'm.tflite')
  np.testing.assert_allclose(
      file(_IMAGES), expected, atol=1.01 * file.output_scale)
  assert verification.of_biases(kernels) == []


def test_biases_without_room_are_told(dead_branch, tmp_path):
  middle = dead_branch.layers[1].fused_activation
  for quantizer in calibration.quantizers_of(middle):
    quantizer.maximum.assign(0.05)
  file, kernels = _file(dead_branch, tmp_path / 'm.tflite')
  assert np.max(file(_IMAGES)) < 1.0
  assert [k.num_saturated_biases for k in kernels] == [0, 8]
  assert 'do not fit into int32' in verification.of_biases(kernels)[0]


def test_dead_channels_are_those_of_float_where_nothing_is_quantized(dead):
  twin = _quantized(dead)
  with calibration.quantizer_mode(twin, quantizers.Mode.PASS_THROUGH):
    np.testing.assert_allclose(
        twin(_IMAGES, training=False), dead(_IMAGES, training=False),
        rtol=1e-5, atol=1e-6)


def test_a_file_of_a_dead_layer_can_be_loaded(tmp_path):
  """A range of nothing but zeros would be a step that runtimes refuse."""
  inputs = tf_keras.Input([12, 12, 3])
  x = layers.Conv2D(8, 3, activation='relu', bias_initializer='random_uniform')(
      inputs)
  dead = layers.Conv2D(8, 3, padding='same', activation='relu')
  x = layers.Add()([x, dead(x)])
  model = tf_keras.Model(
      inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
  dead.bias.assign(-100.0 * np.ones(8))
  twin = _quantized(model)
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(twin, 'int8'))
  file = litert_model.Model(str(path))
  assert np.max(np.abs(
      file(_IMAGES) - twin(_IMAGES, training=False))) <= (
          1.01 * file.output_scale)
