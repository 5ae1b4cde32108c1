"""The mean error of quantized channels is subtracted from their biases."""

import numpy as np
import pytest
import tf_keras

from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling.equalization import bias_correction
from modelgarden_opt.modeling.equalization import units
from tests import conftest
from tests.modeling.equalization import models

layers = tf_keras.layers
_FOUR_BITS = quantization_cfg.Quantization(
    change_num_bits=True, num_bits_weight=4, low_bit='all')


def _mean_error(model, expected, images):
  """Returns the mean over channels of the absolute mean error."""
  outputs = model(images, training=False).numpy()
  axes = tuple(range(outputs.ndim - 1))
  return np.abs(np.mean(outputs - expected, axes))


def test_one_layer_has_the_mean_of_its_float_counterpart():
  model = models.functional(
      lambda x: layers.Conv2D(6, 3)(x), block=_FOUR_BITS)
  [unit] = units.find(model)
  images = conftest.random_images([16, 8, 8, 3]) + 1.0
  models.calibrate(model, images)
  expected = models.in_float(model, images)
  before, bias = _mean_error(model, expected, images), unit.op.bias.numpy()
  error = np.mean(model(images, training=False) - expected, axis=(0, 1, 2))
  assert bias_correction.correct(model, [images]) == []
  # What is left is the rounding of the output.
  np.testing.assert_allclose(unit.op.bias, bias - error, atol=0.02)
  assert _mean_error(model, expected, images).max() < 0.1 * before.max()


@pytest.mark.parametrize('name', ['mobilenet_v2', 'resnet', 'mobilenet_v3'])
def test_a_model_of_4_bits_is_nearer_to_float_on_other_images(
    name, tiny_params):
  model = models.quantized(models.family(tiny_params, name), _FOUR_BITS)
  images = conftest.random_images([96, 32, 32, 3])
  other = conftest.random_images([96, 32, 32, 3], seed=1)
  models.calibrate(model, images)
  expected = models.in_float(model, other)
  before = _mean_error(model, expected, other).mean()
  bias_correction.correct(model, [images[:48], images[48:]])
  after = _mean_error(model, expected, other).mean()
  print(name, before, after)
  assert after < 0.5 * before


def test_a_layer_without_a_bias_is_named():
  model = models.functional(lambda x: layers.Conv2D(2, 1)(
      layers.Conv2D(4, 1, use_bias=False, activation='relu')(x)))
  images = conftest.random_images([8, 8, 8, 3])
  models.calibrate(model, images)
  assert bias_correction.correct(model, [images]) == ['conv2d_0']


def test_no_images_are_an_error():
  model = models.functional(lambda x: layers.Conv2D(2, 1)(x))
  with pytest.raises(ValueError, match='no data'):
    bias_correction.correct(model, [])
