"""Folding and rescaling change kernels, and not what a model computes."""

import numpy as np
import pytest
import tf_keras

from modelgarden_opt.modeling.equalization import cross_layer
from modelgarden_opt.modeling.equalization import rescaling
from modelgarden_opt.modeling.equalization import units
from tests import conftest
from tests.modeling.equalization import models

layers = tf_keras.layers


@pytest.mark.parametrize('name', models.FAMILIES)
def test_outputs_stay(name, tiny_params):
  model = models.quantized(models.family(tiny_params, name))
  found = units.find(model)
  before = models.in_float(model)
  for change in (rescaling.rescale, rescaling.fold_batch_norm,
                 lambda _: cross_layer.equalize(model)):
    kernels = [unit.op.kernel_variable.numpy() for unit in found]
    change(found)
    assert models.difference(models.in_float(model), before) < 1e-4
    changed = [not np.allclose(kernel, unit.op.kernel_variable)
               for kernel, unit in zip(kernels, found)]
    has_norms = any(unit.norm for unit in found)
    assert any(changed) == (change is not rescaling.fold_batch_norm
                            or has_norms)


def test_training_goes_on_from_the_same_function(tiny_params):
  """Batch statistics, too, are normalized to what they were before."""
  model = models.quantized(models.family(tiny_params, 'mobilenet_v2'))
  before = models.in_float(model, training=True)
  cross_layer.equalize(model)
  after = models.in_float(model, training=True)
  # But for the epsilon of normalizations, which is another share of the
  # variance.
  assert models.difference(after, before) < 0.02


@pytest.mark.parametrize('scale', [True, False])
@pytest.mark.parametrize('center', [True, False])
@pytest.mark.parametrize('use_bias', [True, False])
def test_folding_is_the_arithmetic_of_a_normalization(scale, center, use_bias):
  model = models.functional(lambda x: layers.BatchNormalization(
      scale=scale, center=center, epsilon=0.01)(layers.DepthwiseConv2D(
          3, depth_multiplier=2, use_bias=use_bias,
          bias_initializer='random_normal')(x)))
  [unit] = units.find(model)
  rng = np.random.default_rng(0)
  mean, variance = rng.normal(size=6), rng.uniform(0.1, 3.0, 6)
  gamma = rng.uniform(-2.0, 2.0, 6) if scale else np.ones(6)
  unit.norm.moving_mean.assign(mean)
  unit.norm.moving_variance.assign(variance)
  if scale:
    unit.norm.gamma.assign(gamma)
  images = conftest.random_images([2, 8, 8, 3])
  kernel, before = unit.op.kernel_variable.numpy(), models.in_float(
      model, images)
  rescaling.fold_batch_norm([unit])
  factors = gamma / np.sqrt(variance + 0.01)
  np.testing.assert_allclose(
      unit.op.kernel_variable, kernel * factors.reshape([3, 2]), rtol=1e-5)
  one = np.sqrt(unit.norm.moving_variance + 0.01)
  np.testing.assert_allclose(unit.norm.gamma if scale else 1.0, one, rtol=1e-5)
  np.testing.assert_allclose(
      models.in_float(model, images), before, atol=1e-5)


def test_a_channel_that_its_normalization_switches_off_stays_off():
  model = models.functional(
      lambda x: layers.BatchNormalization()(layers.Conv2D(2, 1)(x)))
  [unit] = units.find(model)
  unit.norm.gamma.assign([0.0, 1.0])
  unit.norm.beta.assign([0.3, 0.0])
  rescaling.fold_batch_norm([unit])
  outputs = models.in_float(model, conftest.random_images([2, 8, 8, 3]))
  np.testing.assert_allclose(outputs[..., 0], 0.3, rtol=1e-6)
  assert np.ptp(outputs[..., 1]) > 0.1


def test_rescaling_is_within_its_limits_and_by_its_seed(tiny_params):
  model = models.quantized(models.family(tiny_params, 'mobilenet_v2'))
  [*_, unit, _] = units.find(model)  # Its kernel nothing else scales.

  def factors(**options):
    before = unit.op.kernel_variable.numpy()
    rescaling.rescale([unit], **options)
    return np.median(unit.op.kernel_variable / before, axis=(0, 1, 2))

  first = factors(low=0.25, high=4.0, seed=1)
  assert 0.25 <= first.min() < 0.5 and 2.0 < first.max() <= 4.0
  np.testing.assert_allclose(factors(low=0.25, high=4.0, seed=1), first, 1e-4)
  assert not np.allclose(factors(low=0.25, high=4.0, seed=2), first)
