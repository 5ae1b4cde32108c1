"""Fake quantization against TensorFlow's ops and TFMOT's quantizers."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression.quantization import fake_quant
from modelgarden_opt.compression.quantization import quantizers
from tests import conftest

X = conftest.random_images([4, 6, 6, 8]) * 3.0


@pytest.mark.parametrize('num_bits', [2, 4, 8])
@pytest.mark.parametrize('limits', [(-2.0, 3.0), (0.0, 4.0), (-6.0, 6.0),
                                    (-0.01, 5.3)])
@pytest.mark.parametrize('jit', [False, True])
def test_values_and_gradient_are_those_of_the_op(num_bits, limits, jit):
  low, high = (tf.constant(v) for v in limits)

  def ours(x):
    return fake_quant.fake_quantize(x, low, high, num_bits, training=True)

  def reference(x):
    return tf.quantization.fake_quant_with_min_max_vars(
        x, low, high, num_bits=num_bits)

  def value_and_gradient(function):
    # Both compiled or both not: XLA rounds a zero point of x.5 the other way.
    @tf.function(jit_compile=jit)
    def compute(x):
      with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
        loss = tf.reduce_sum(y * y)
      return y, tape.gradient(loss, x)
    return compute(X)

  for got, want in zip(value_and_gradient(ours), value_and_gradient(reference)):
    np.testing.assert_allclose(got, want, atol=1e-5)


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
  quantizer = quantizers.KernelQuantizer()
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


def test_moving_average_is_that_of_tfmot():
  from tensorflow_model_optimization.python.core.quantization.keras import (
    quantizers as tfmot,
  )
  reference = tfmot.MovingAverageQuantizer(
      num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
  layer = tf_keras.layers.Layer()
  weights = reference.build(X.shape, 'x', layer)
  ours = quantizers.ActivationQuantizer(momentum=0.999)
  ours.build(tf_keras.layers.Layer(), 'output')
  for scale in (1.0, 2.0, 0.5):
    expected = reference(X * scale, training=True, weights=weights)
    actual = ours(X * scale, training=True)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
  np.testing.assert_allclose(ours.minimum, weights['min_var'], rtol=1e-5)
  np.testing.assert_allclose(ours.maximum, weights['max_var'], rtol=1e-5)
