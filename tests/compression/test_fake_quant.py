"""Fake quantization against TensorFlow's ops and TFMOT's quantizers."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.quantization import fake_quant
from modelgarden_opt.compression.quantization import functions
from modelgarden_opt.compression.quantization import kernel_quantizer
from modelgarden_opt.compression.quantization import quantizers
from tests import conftest

X = conftest.random_images([4, 6, 6, 8]) * 3.0


RELUS = {None: lambda x: x, 'relu': tf.nn.relu, 'relu6': tf.nn.relu6}


def _value_and_gradient(function, jit):
  @tf.function(jit_compile=jit)
  def compute(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = function(x)
      loss = tf.reduce_sum(y * y)
    return y, tape.gradient(loss, x)
  return compute(X)


@pytest.mark.parametrize('num_bits', [2, 4, 8])
@pytest.mark.parametrize('relu', RELUS)
@pytest.mark.parametrize('jit', [False, True])
def test_covered_is_the_unfused_definition(num_bits, relu, jit):
  values = RELUS[relu](X)
  low = tf.minimum(tf.reduce_min(values), 0.0)
  high = tf.reduce_max(values)

  def unfused(x):
    return tf.quantization.fake_quant_with_min_max_vars(
        RELUS[relu](x), low - 1e-3, high + 1e-3, num_bits=num_bits)

  def fused(x):
    return fake_quant.fake_quantize_covered(
        x, low - 1e-3, high + 1e-3, num_bits, relu)

  if relu:
    low = low + 1e-3  # The range after a ReLU starts at 0.
  # Nudging moves a two-sided range by up to half a step and clips what the
  # covered definition does not: compare where the op passes a gradient.
  got, want = (_value_and_gradient(f, jit) for f in (fused, unfused))
  np.testing.assert_allclose(got[0], want[0], atol=1e-5)
  inside = np.abs(np.clip(X, low, high) - X) == 0
  step = float(high - low) / (2**num_bits - 1)
  far = inside & (X > float(low) + step) & (X < float(high) - step)
  np.testing.assert_allclose(got[1][far], want[1][far], atol=1e-5)
  if relu and num_bits < 8:
    np.testing.assert_allclose(got[1], want[1], atol=1e-5)
  elif relu:  # None within half a step of an end.
    below_6 = X < 5.9
    expected = np.where(got[0] > 0, want[1], 0.0)
    np.testing.assert_allclose(
        got[1][below_6], expected[below_6], atol=1e-5)


@pytest.mark.parametrize('num_bits', [2, 4, 8])
@pytest.mark.parametrize('limits', [(-2.0, 3.0), (0.0, 4.0), (-0.01, 5.3)])
@pytest.mark.parametrize('jit', [False, True])
def test_fixed_is_the_op_with_variables(num_bits, limits, jit):
  low, high = (tf.constant(v) for v in limits)
  got = _value_and_gradient(lambda x: fake_quant.fake_quantize_fixed(
      x, *limits, num_bits), jit)
  want = _value_and_gradient(
      lambda x: tf.quantization.fake_quant_with_min_max_vars(
          x, low, high, num_bits=num_bits), jit)
  for a, b in zip(got, want):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize('per_channel', [False, True])
def test_kernel_values_are_those_of_tfmot(per_channel):
  from tensorflow_model_optimization.python.core.quantization.keras import (
    quantizers as tfmot,
  )
  kernel = tf.Variable(conftest.random_images([3, 3, 4, 8]))
  reference = tfmot.LastValueQuantizer(
      num_bits=8, per_axis=per_channel, symmetric=True, narrow_range=True)
  layer = tf_keras.layers.Layer()
  weights = reference.build(kernel.shape, 'kernel', layer)
  expected = reference(kernel, training=True, weights=weights)
  actual = fake_quant.fake_quantize_kernel(
      tf.convert_to_tensor(kernel), 8, per_channel, training=False)
  np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize('num_bits', [2, 4, 8])
@pytest.mark.parametrize('per_channel', [False, True])
@pytest.mark.parametrize('keep_non_zero', [False, True])
@pytest.mark.parametrize('share', [0.4, 1.0])
def test_training_computes_what_the_op_computes(
    num_bits, per_channel, keep_non_zero, share):
  kernel = conftest.random_images([3, 3, 64, 96])
  limit = share * fake_quant.kernel_range(kernel, per_channel)
  step = limit / (2.0**(num_bits - 1) - 1.0)
  actual = fake_quant.quantize_in_training(
      kernel, limit, num_bits, keep_non_zero, covered=share == 1.0)
  expected = fake_quant.quantize_over(kernel, limit, num_bits, keep_non_zero)
  difference = np.abs(actual - expected) / step
  # But for the middle between two steps: 55,296 weights, of float32.
  assert np.count_nonzero(difference > 1e-4) <= 1
  assert np.max(difference) < 1.001


def test_kernel_gradient_is_the_identity():
  kernel = conftest.random_images([3, 3, 4, 8])
  with tf.GradientTape() as tape:
    tape.watch(kernel)
    loss = tf.reduce_sum(
        fake_quant.fake_quantize_kernel(kernel, 8, True, True) * 2.0)
  np.testing.assert_array_equal(tape.gradient(loss, kernel), 2.0)


def test_depthwise_kernels_have_a_scale_for_every_channel():
  kernel = conftest.random_images([3, 3, 4, 2]).numpy()
  kernel[..., 0, 0] *= 1e-2
  layer = tf_keras.layers.DepthwiseConv2D(3, depth_multiplier=2)
  layer.build([None, 8, 8, 4])
  quantizer = kernel_quantizer.KernelQuantizer()
  quantizer.build(layer, layer.depthwise_kernel)
  result = quantizer(tf.constant(kernel), training=False).numpy()
  # The small channel keeps its shape: its error is 1/254 of its own range.
  error = np.max(np.abs(result - kernel)[..., 0, 0])
  assert error <= np.max(np.abs(kernel[..., 0, 0])) / 253


def test_a_dead_channel_stays_finite_and_zero():
  kernel = conftest.random_images([1, 1, 4, 3]).numpy()
  kernel[..., 1] = 0.0
  result = fake_quant.fake_quantize_kernel(
      tf.constant(kernel), 8, True, False).numpy()
  assert np.all(np.isfinite(result))
  np.testing.assert_array_equal(result[..., 1], 0.0)


@pytest.mark.parametrize(('num_bits', 'kept'), [(8, True), (4, False)])
def test_what_a_mask_keeps_is_not_zero_at_8_bits(num_bits, kept):
  kernel = conftest.random_images([3, 3, 64, 64])
  layer = tf_keras.layers.Conv2D(64, 3)
  layer.build([None, 8, 8, 64])
  quantizer, alone = (
      kernel_quantizer.KernelQuantizer(num_bits) for _ in range(2))
  quantizer.follow(transforms.KernelTransform())
  result, nearest = (q(kernel, False).numpy() for q in (quantizer, alone))
  assert np.all(result != 0) == kept
  # All that lies half a step or more from zero is rounded to nearest.
  same = result == nearest
  assert np.all(nearest[~same] == 0)

  def error(values):
    return np.linalg.norm(values - kernel) / np.linalg.norm(kernel)

  # What the promise costs: with 4 bits it would be half of the error again.
  assert error(result) <= 1.05 * error(nearest)
  assert error(result) <= (0.01 if num_bits == 8 else 0.145)


def _built(**kwargs):
  quantizer = quantizers.ActivationQuantizer(**kwargs)
  quantizer.build(tf_keras.layers.Layer(), 'output')
  return quantizer


def test_a_range_grows_at_once():
  ours = _built()
  ours(X * 10.0, training=True)
  np.testing.assert_allclose(ours.minimum, tf.reduce_min(X) * 10.0, rtol=1e-6)
  np.testing.assert_allclose(ours.maximum, tf.reduce_max(X) * 10.0, rtol=1e-6)


def test_a_range_shrinks_as_tfmot_s_moving_average():
  from tensorflow_model_optimization.python.core.quantization.keras import (
    quantizers as tfmot,
  )
  reference = tfmot.MovingAverageQuantizer(
      num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
  layer = tf_keras.layers.Layer()
  weights = reference.build(X.shape, 'x', layer)
  ours = _built(momentum=0.999)
  for scale in (0.3, 0.1, 0.2):  # Within the initial range, -6 to 6.
    expected = reference(X * scale, training=True, weights=weights)
    actual = ours(X * scale, training=True)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
  np.testing.assert_allclose(ours.minimum, weights['min_var'], rtol=1e-5)
  np.testing.assert_allclose(ours.maximum, weights['max_var'], rtol=1e-5)


@pytest.mark.parametrize('lower', [0.0, None])
def test_a_batch_of_zeros_moves_no_range(lower):
  ours = _built(lower=lower, momentum=0.5)
  for _ in range(100):
    ours(0.0 * X, training=True)
  assert float(ours.maximum) == quantizers.INITIAL
  assert float(ours.minimum) == (-quantizers.INITIAL if lower is None else 0.0)
  ours(1e-3 * tf.abs(X), training=True)
  assert float(ours.maximum) < 0.51 * quantizers.INITIAL
  assert lower is not None or float(ours.minimum) == -quantizers.INITIAL / 2


def test_a_smallest_range_is_shrunk_to():
  ours = _built(lower=0.0, at_least=0.5, momentum=0.5)
  for _ in range(50):
    ours(tf.constant([0.0, 0.1]), training=True)
  assert float(ours.maximum) == pytest.approx(0.5)


def test_behind_relu6_a_range_ends_at_6_at_most():
  ours = _built(lower=0.0)
  y = ours(X * 100.0, training=True, relu='relu6')
  assert float(ours.maximum) == 6.0 and float(tf.reduce_max(y)) <= 6.0
  assert float(tf.reduce_min(y)) == 0.0


def test_a_frozen_range_clips_and_stops_the_gradient():
  ours = _built()
  ours.maximum.assign(1.0)
  ours.minimum.assign(-1.0)
  ours.freeze()
  x = tf.constant([-3.0, 0.5, 3.0])
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = ours(x, training=True)
  np.testing.assert_array_equal(tape.gradient(y, x), [0.0, 1.0, 0.0])
  assert float(ours.maximum) == 1.0 and np.max(np.abs(y)) < 1.01


@pytest.mark.parametrize('name', ['hard_swish', 'swish'])
def test_known_lower_ends_cover_the_rounded_function(name):
  x = tf.linspace(-4.0, 4.0, 100001)
  gate = tf.nn.relu6(x + 3.0) / 6.0 if name == 'hard_swish' else tf.sigmoid(x)
  worst = tf.reduce_min(x * gate) - 3.0 / 512.0
  assert functions.RECIPES[name].ranges['output']['lower'] <= worst + 1e-4
