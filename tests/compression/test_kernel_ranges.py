"""Kernel ranges that are variables, against plain numpy definitions."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.quantization import fake_quant
from modelgarden_opt.compression.quantization import kernel_quantizer
from modelgarden_opt.compression.quantization import kernel_ranges
from tests import conftest

# Of a layer: class, shape of the kernel, whether channels have own ranges.
LAYERS = {
    'conv': ((3, 3, 4, 6), True),
    'conv_per_tensor': ((3, 3, 4, 6), False),
    'depthwise': ((3, 3, 4, 2), True),
    'dense': ((40, 6), False),
}


def _kernel(shape):
  """Weights with a few outliers, the channels of different size."""
  values = np.random.default_rng(0).standard_t(4, shape)
  return (values * np.linspace(0.1, 2.0, shape[-1])).astype(np.float32)


def _built(name, **kwargs):
  """Returns a quantizer and the kernel of the layer that it belongs to."""
  shape, per_channel = LAYERS[name]
  if name == 'dense':
    layer = tf_keras.layers.Dense(shape[-1])
    layer.build([None, shape[0]])
  elif name == 'depthwise':
    layer = tf_keras.layers.DepthwiseConv2D(3, depth_multiplier=shape[-1])
    layer.build([None, 8, 8, shape[-2]])
  else:
    layer = tf_keras.layers.Conv2D(shape[-1], shape[:2])
    layer.build([None, 8, 8, shape[-2]])
  kernel = layer.trainable_variables[0]
  kernel.assign(_kernel(shape))
  quantizer = kernel_quantizer.KernelQuantizer(
      per_channel=per_channel, **kwargs)
  quantizer.build(layer, kernel)
  return quantizer, kernel, layer


def _columns(array, name):
  """[weights of a range, ranges]"""
  channels = np.prod(array.shape[-2:]) if name == 'depthwise' else (
      array.shape[-1])
  return array.reshape(-1, channels if LAYERS[name][1] else 1)


def _quantized(columns, limit, levels):
  step = limit / levels
  return np.round(np.clip(columns, -limit, limit) / step) * step


@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('num_bits', [2, 4, 8])
def test_the_searched_range_has_the_least_error_of_all(name, num_bits):
  quantizer, kernel, _ = _built(name, num_bits=num_bits, weight_range='mse')
  quantizer.start(kernel)
  columns, levels = _columns(kernel.numpy(), name), 2**(num_bits - 1) - 1
  limits = np.abs(columns).max(0) * np.linspace(1.0, 0.01, 100)[:, np.newaxis]
  errors = np.stack([
      np.sum((_quantized(columns, limit, levels) - columns)**2, 0)
      for limit in limits])
  expected = limits[np.argmin(errors, 0), range(columns.shape[1])]
  np.testing.assert_allclose(
      np.reshape(quantizer.limit, [-1]), expected, rtol=1e-5)
  if num_bits == 4:
    # What that is good for.
    assert errors.min(0).sum() < 0.95 * errors[0].sum()


@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('num_bits', [2, 4, 8])
@pytest.mark.parametrize('weight_range', ['mse', 'learned'])
def test_values_outside_of_the_range_are_clipped(name, num_bits, weight_range):
  quantizer, kernel, _ = _built(
      name, num_bits=num_bits, weight_range=weight_range)
  columns = _columns(kernel.numpy(), name)
  limit = 0.5 * np.abs(columns).max(0)
  quantizer.limit.assign(limit.reshape(quantizer.limit.shape))
  levels = 2**(num_bits - 1) - 1
  for training in (False, True):
    result = quantizer(tf.convert_to_tensor(kernel), training)
    np.testing.assert_allclose(
        _columns(result.numpy(), name), _quantized(columns, limit, levels),
        atol=1e-6)
  # The step that biases are rounded with, also where no weight is clipped.
  np.testing.assert_allclose(
      np.reshape(quantizer.step(result * 0.5), [-1]), limit / levels, rtol=1e-6)


@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('num_bits', [2, 4, 8])
@pytest.mark.parametrize('in_function', [False, True])
def test_a_learned_range_has_the_gradient_of_the_paper(
    name, num_bits, in_function):
  quantizer, kernel, layer = _built(
      name, num_bits=num_bits, weight_range='learned')
  quantizer.start(kernel)
  quantizer.limit.assign(quantizer.limit * 0.6)
  upstream = conftest.random_images(kernel.shape, seed=1)

  def gradients():
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(
          upstream * quantizer(tf.convert_to_tensor(kernel), True))
    return tape.gradient(loss, [kernel, quantizer.limit])

  of_kernel, of_limit = (
      tf.function(gradients) if in_function else gradients)()
  # Esser et al., equations 3 and 5 and section 2.2, in their variables.
  columns, dy = (_columns(v, name) for v in (kernel.numpy(), upstream.numpy()))
  levels = 2**(num_bits - 1) - 1
  step = np.reshape(quantizer.limit, [-1]) / levels
  ratio = columns / step
  by_step = np.where(
      np.abs(ratio) < levels, np.round(ratio) - ratio, np.sign(ratio) * levels)
  scale = 1.0 / np.sqrt(columns.shape[0] * levels)
  of_step = scale * np.sum(dy * by_step, 0)
  np.testing.assert_allclose(
      np.reshape(of_limit, [-1]), levels * of_step, rtol=1e-3, atol=1e-4)
  np.testing.assert_array_equal(
      _columns(of_kernel.numpy(), name), dy * (np.abs(ratio) < levels))
  assert any(v is quantizer.limit for v in layer.trainable_variables)
  assert np.any(np.abs(ratio) > levels)


def test_gradient_descent_moves_the_range_as_the_step_of_the_paper():
  """Which of both is the variable makes no difference to plain descent."""
  quantizer, kernel, _ = _built('dense', num_bits=4, weight_range='learned')
  quantizer.start(kernel)
  limit, levels, rate = float(quantizer.limit), 7, 0.1
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(quantizer(tf.convert_to_tensor(kernel), True)**2)
  gradient = float(tape.gradient(loss, quantizer.limit))
  values, step = kernel.numpy(), limit / levels
  by_step = np.where(np.abs(values) < limit, np.round(values / step) -
                     values / step, np.sign(values) * levels)
  dy = 2.0 * _quantized(values, limit, levels)
  moved = step - rate * np.sum(dy * by_step) / np.sqrt(values.size * levels)
  assert limit - rate * gradient == pytest.approx(levels * moved, rel=1e-5)


def test_a_constant_range_passes_every_gradient():
  quantizer, kernel, layer = _built('conv', num_bits=4, weight_range='mse')
  quantizer.start(kernel)
  assert np.any(np.abs(kernel) > quantizer.limit.numpy())
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(3.0 * quantizer(tf.convert_to_tensor(kernel), True))
  np.testing.assert_array_equal(tape.gradient(loss, kernel), 3.0)
  assert not any(v is quantizer.limit for v in layer.trainable_variables)


def test_a_learned_range_comes_back_from_below_zero():
  quantizer, kernel, _ = _built('dense', num_bits=4, weight_range='learned')
  quantizer.limit.assign(-1.0)
  with tf.GradientTape() as tape:
    result = quantizer(tf.convert_to_tensor(kernel), True)
    loss = tf.reduce_sum((result - kernel)**2)
  assert np.max(np.abs(result)) == pytest.approx(fake_quant.MIN_KERNEL_RANGE)
  assert float(tape.gradient(loss, quantizer.limit)) < 0.0


def test_a_dead_channel_has_the_smallest_range():
  kernel = _kernel((1, 1, 8, 3))
  kernel[..., 1] = 0.0
  limits = kernel_ranges.search(
      tf.constant(kernel), True,
      lambda k, limit: fake_quant.quantize_over(k, limit, 4)).numpy()
  assert limits[1] == np.float32(fake_quant.MIN_KERNEL_RANGE)
  assert np.all(limits[[0, 2]] > 0.05)


@pytest.mark.parametrize('weight_range', ['mse', 'learned'])
def test_8_bits_keep_the_zeros_of_a_mask(weight_range):
  shape = LAYERS['conv'][0]
  layer = tf_keras.layers.Conv2D(shape[-1], 3)
  layer.build([None, 8, 8, shape[-2]])
  mask = np.random.default_rng(1).integers(0, 2, shape)
  layer.kernel.assign(_kernel(shape) * mask)
  quantizer = kernel_quantizer.KernelQuantizer(weight_range=weight_range)
  quantizer.follow(transforms.KernelTransform())
  quantizer.build(layer, layer.kernel)
  quantizer.start(layer.kernel)
  for training in (False, True):
    result = quantizer(tf.convert_to_tensor(layer.kernel), training)
    np.testing.assert_array_equal(result.numpy() != 0, mask)


def test_shared_weights_have_one_range_and_stay_shared():
  shape = LAYERS['conv'][0]
  layer = tf_keras.layers.Conv2D(shape[-1], 3)
  layer.build([None, 8, 8, shape[-2]])
  layer.kernel.assign(
      np.random.default_rng(0).choice([-3.0, -0.2, 0.0, 0.7, 1.1], shape))
  table = transforms.KernelTransform()
  table.shares_values = True
  quantizer = kernel_quantizer.KernelQuantizer(4, weight_range='mse')
  quantizer.follow(table)
  quantizer.build(layer, layer.kernel)
  quantizer.start(layer.kernel)
  assert quantizer.limit.shape == ()
  result = quantizer(tf.convert_to_tensor(layer.kernel), False)
  assert len(np.unique(result)) <= 5
