"""Whole models are rounded: what their layers read, and what they compute."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt.configs import overrides
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling import post_training
from modelgarden_opt.modeling.rounding import layerwise
from modelgarden_opt.modeling.rounding import moments
from modelgarden_opt.tasks import run_directory
from tests import conftest

_FOUR_BITS = {'change_num_bits': True, 'num_bits_weight': 4, 'low_bit': 'all'}


def _layers():
  layers = tf_keras.layers
  return {
      'conv': layers.Conv2D(5, 3, strides=2, padding='same', use_bias=False),
      'dilated': layers.Conv2D(4, (3, 2), dilation_rate=2, use_bias=False),
      'pointwise': layers.Conv2D(6, 1, strides=2, use_bias=False),
      'depthwise': layers.DepthwiseConv2D(
          3, padding='same', depth_multiplier=2, use_bias=False),
  }


@pytest.mark.parametrize('name', _layers())
def test_moments_give_the_error_of_an_output(name):
  layer = _layers()[name]
  rng = np.random.default_rng(0)
  quantized, floats = (rng.normal(size=[2, 9, 8, 3]).astype(np.float32)
                       for _ in range(2))
  model = tf_keras.Sequential([tf_keras.Input((9, 8, 3)), layer])
  twin = factory.compress(model, quantization_cfg.Quantization())
  leaf = next(item for item in twin.layers if hasattr(item, 'chain'))
  found = moments.Moments(leaf)
  found.add(tf.constant(quantized), tf.constant(floats))
  kernel, kind = layer.get_weights()[0], leaf.layer_type
  other = kernel + 0.1 * rng.normal(size=kernel.shape).astype(np.float32)
  weights, changed = (moments.as_matrices(k, kind) for k in (kernel, other))
  np.testing.assert_array_equal(
      moments.as_kernel(weights, kernel.shape, kind), kernel)
  of_float = moments.Moments(leaf)
  of_float.add(tf.constant(floats), tf.constant(floats))
  error = np.sum(
      changed * (found.of_quantized @ changed
                 - 2.0 * found.of_both @ weights)) + np.sum(
                     weights * (of_float.of_quantized @ weights))
  expected = layer(floats).numpy()
  layer.set_weights([other])
  np.testing.assert_allclose(
      error, np.sum((layer(quantized).numpy() - expected)**2), rtol=1e-3)


@pytest.fixture(scope='module')
def images():
  return [tf.constant(conftest.random_images([16, 32, 32, 3], seed))
          for seed in range(2)]


def _twin(float_run, images, **fields):
  model = run_directory.load(float_run).model
  block = quantization_cfg.Quantization(**{**_FOUR_BITS, **fields})
  twin = factory.compress(model, block)
  post_training.quantize(
      twin, block, lambda: ((batch, None) for batch in images))
  return model, twin


@pytest.mark.parametrize('weight_range', ['max', 'mse'])
def test_outputs_are_nearer_to_those_of_the_float_model(
    weight_range, float_run, images):
  fresh = tf.constant(conftest.random_images([32, 32, 32, 3], 9))
  errors_of = {}
  for rounding in quantization_cfg.ROUNDINGS:
    model, twin = _twin(
        float_run, images, weight_range=weight_range, rounding=rounding)
    errors_of[rounding] = float(tf.reduce_mean(tf.square(
        twin(fresh, training=False) - model(fresh, training=False))))
  assert errors_of['adaround'] < 0.5 * errors_of['nearest']


def test_a_rounded_kernel_is_on_its_grid(float_run, images):
  model, twin = _twin(float_run, images, weight_range='mse',
                      rounding='adaround')
  moved = 0
  floats = dict(zip((v.name for v in model.variables), model.get_weights()))
  for layer in twin._flatten_layers():
    if not getattr(layer, 'chain', None):
      continue
    kernel = layer.kernel_variable
    np.testing.assert_allclose(
        layer.chain(tf.convert_to_tensor(kernel), False), kernel, atol=1e-6)
    step = layerwise.quantizer_of(layer).step_of(kernel)
    change = np.abs(floats[kernel.name] - kernel.numpy()) / step
    moved += np.sum((change > 0.5) & (change < 1.0))
  assert moved > 10  # Nearest rounding moves no weight so far.


def test_the_file_computes_what_the_rounded_model_computes(
    float_run, images, tmp_path):
  # Other kernels than pointwise ones of 4 bits run in another arithmetic.
  _, twin = _twin(
      float_run, images, rounding='adaround', low_bit='pointwise')
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(twin, 'int8'))
  file = litert_model.Model(str(path))
  batch = images[0].numpy()[:8]
  difference = np.abs(file(batch) - twin(batch, training=False))
  assert np.mean(difference) < 0.2 * file.output_scale


def test_rules_choose_and_zeros_stay(float_run, images):
  rule = quantization_cfg.QuantizationRule(
      path='backbone/inverted_bottleneck_block_1/*', rounding='adaround')
  model, twin = _twin(float_run, images, rules=[rule])
  changed = [
      layer.path for layer in twin._flatten_layers()
      if getattr(layer, 'chain', None) and not np.array_equal(
          layer.kernel_variable, _float_kernel(model, layer))]
  assert changed
  assert all('inverted_bottleneck_block_1/' in path for path in changed)


def _float_kernel(model, layer):
  return next(v.numpy() for v in model.variables
              if v.name == layer.kernel_variable.name)


def test_there_must_be_images(float_run):
  model = run_directory.load(float_run).model
  twin = factory.compress(model, quantization_cfg.Quantization(
      rounding='adaround'))
  with pytest.raises(ValueError, match='no data'):
    layerwise.round_kernels(twin, [])


def test_every_mode_is_as_before(float_run, images):
  _, twin = _twin(float_run, images, rounding='adaround')
  assert {q.mode for q in calibration.quantizers_of(twin)} == {
      calibration.Mode.QUANTIZE}


def test_a_wrong_name_is_refused():
  block = quantization_cfg.Quantization(rounding='adaroud')
  assert overrides.problems_of({'quantization': block}) == [
      'quantization.rounding: must be one of nearest, adaround, received '
      "'adaroud'; did you mean 'adaround'?"]
