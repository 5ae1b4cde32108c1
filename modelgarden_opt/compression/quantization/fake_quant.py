"""Fake quantization with a straight-through gradient.

Forward values are those of TensorFlow's `FakeQuantWithMinMaxVars` ops, which
the TFLite converter understands; the gradients are written here, because the
ops' own compute two more outputs (for learned ranges) that nobody reads.

The gradients are recorded on the tape that is active, without
`tf.custom_gradient`: its identity ops, and the zeros that the tape makes for
them, were a third of all ops of a traced training step. A tape outside of a
`tf.function` sees the ops' own gradients instead, which differ from these at
the ends of a range only.

Source: Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", arXiv:1712.05877, section 3.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
import math

import tensorflow as tf
from tensorflow.python.eager import record

# Kernels whose largest magnitude is below this (dead or fully pruned channels)
# are quantized as if it were this: a scale near zero would overflow the int32
# bias of the channel, whose scale is input scale times kernel scale.
MIN_KERNEL_RANGE = 1e-4

# From so many bits on, a ReLU has no gradient where its output is rounded to
# one of its ends: within half a step, of 255 at least.
_FINE_BITS = 8


def fake_quantize(
    x: tf.Tensor, minimum: tf.Tensor, maximum: tf.Tensor, num_bits: int
) -> tf.Tensor:
  """Quantizes and dequantizes an activation: the bare op, for inference.

  Args:
    x: Float tensor of any shape.
    minimum: Scalar lower end of the range, <= 0.
    maximum: Scalar upper end of the range, >= 0.
    num_bits: Bits of the integer grid, 2 to 16.
  """
  return tf.quantization.fake_quant_with_min_max_vars(
      x, minimum, maximum, num_bits=num_bits)


def fake_quantize_covered(
    x: tf.Tensor,
    minimum: tf.Tensor,
    maximum: tf.Tensor,
    num_bits: int,
    relu: str | None = None,
) -> tf.Tensor:
  """`fake_quantize` in training, over a range that covers every value.

  Nothing is clipped, so the straight-through gradient is the identity, and
  after a ReLU it is the gradient of the ReLU. As a range from 0 clips at 0,
  the ReLU costs no pass over the data either. From 8 bits on, the gradient of
  the ReLU is taken at its rounded output, so that no tensor is kept for the
  backward pass that the float model would not keep.

  Args:
    x: Float tensor of any shape; with `relu`, what the ReLU would read.
    minimum: Scalar lower end, <= every value (after the ReLU) and <= 0.
    maximum: Scalar upper end, >= every value (after the ReLU) and >= 0.
    num_bits: Bits of the integer grid, 2 to 16.
    relu: `relu` or `relu6` to compute this first; `minimum` must be 0 then,
      and `maximum` at most 6 for `relu6`.
  """

  with record.stop_recording():
    y = fake_quantize(x, minimum, maximum, num_bits)
  # The next layer keeps y anyway, so x need not be kept.
  kept = y if num_bits >= _FINE_BITS else x
  gradients = {
      None: lambda dy: dy,
      'relu': lambda dy: tf.raw_ops.ReluGrad(gradients=dy, features=kept),
      'relu6': lambda dy: tf.raw_ops.Relu6Grad(gradients=dy, features=kept)}
  gradient = gradients[relu]
  record.record_operation(
      'FakeQuantizeCovered', [y], [x], lambda dy: [gradient(dy)])
  return y


def straight_through(
    function: Callable[[tf.Tensor], tf.Tensor],
    x: tf.Tensor,
    gradient: Callable[[tf.Tensor], tf.Tensor] = lambda dy: dy,
) -> tf.Tensor:
  """Returns `function(x)`, differentiated as `gradient` says."""
  with record.stop_recording():
    y = function(x)
  record.record_operation(
      'StraightThrough', [y], [x], lambda dy: [gradient(dy)])
  return y


@functools.cache
def constant(value: float) -> tf.Tensor:
  """Returns a float32 scalar that is traced once in every graph.

  A number in an expression is one more op at every place; a model has
  hundreds of ranges.
  """
  with tf.init_scope():
    return tf.constant(value, tf.float32)


@functools.cache
def _axes(count: int) -> tf.Tensor:
  """Returns the first `count` axes, traced once in every graph."""
  with tf.init_scope():
    return tf.range(count)


def extreme(x: tf.Tensor, op: Callable[..., tf.Tensor]) -> tf.Tensor:
  """Returns the largest or smallest element of a tensor, without a gradient.

  Args:
    x: Float tensor of known rank.
    op: `tf.raw_ops.Max` or `tf.raw_ops.Min`.
  """
  with record.stop_recording():
    return op(input=x, axis=_axes(x.shape.rank))


def fake_quantize_fixed(
    x: tf.Tensor, minimum: float, maximum: float, num_bits: int
) -> tf.Tensor:
  """`fake_quantize` in training, over a constant range.

  Values outside are clipped and get no gradient; the ops with the range as an
  attribute compute that in one pass.

  Args:
    x: Float tensor of any shape.
    minimum: Lower end of the range, <= 0.
    maximum: Upper end of the range, > 0.
    num_bits: Bits of the integer grid, 2 to 16.
  """
  return tf.quantization.fake_quant_with_min_max_args(
      x, minimum, maximum, num_bits=num_bits)


def kernel_range(kernel: tf.Tensor, per_channel: bool) -> tf.Tensor:
  """Returns the largest magnitude of a kernel, a scalar or one per channel.

  Args:
    kernel: Tensor whose last axis is the output channel.
    per_channel: Whether every channel gets its own range.
  """
  axes = _axes(kernel.shape.rank - per_channel)
  return tf.maximum(
      tf.raw_ops.Max(input=tf.abs(kernel), axis=axes),
      constant(MIN_KERNEL_RANGE))


def equal_weights(value: float, shape: Sequence[int]) -> tf.Tensor:
  """Returns a kernel of one value that 8 bits hold exactly.

  The range is that of the value: `kernel_range` has a floor, and weights below
  it are not a whole number of steps.

  Args:
    value: The value, > 0.
    shape: The kernel's shape; the last axis is the output channel.
  """
  # Of 127 steps each, or of one where so many products of 127 and 255 could
  # exceed int32.
  steps = 127.0 if 127 * 255 * math.prod(shape[:2]) < 2**31 else 1.0
  limit = tf.fill(shape[-1:], 127.0 / steps * value)
  return tf.quantization.fake_quant_with_min_max_vars_per_channel(
      tf.fill(shape, value), -limit, limit, num_bits=8, narrow_range=True)


def quantize_over(
    kernel: tf.Tensor,
    limit: tf.Tensor,
    num_bits: int,
    keep_non_zero: bool = False,
) -> tf.Tensor:
  """Quantizes and dequantizes a kernel symmetrically, in narrow range.

  Args:
    kernel: Tensor whose last axis is the output channel.
    limit: Upper end of the range, > 0, [channels] or a scalar.
    num_bits: Bits of the integer grid, 2 to 16; 8 gives -127 to 127.
    keep_non_zero: Whether what is not zero becomes one step at least, so that
      the zeros of the result are those of the kernel. Changes only values
      within half a step of zero: the rest is rounded to nearest.
  """
  if keep_non_zero:
    step = limit / constant(2.0**(num_bits - 1) - 1.0)
    kernel = tf.where(tf.abs(kernel) < step, tf.sign(kernel) * step, kernel)
  op = tf.quantization.fake_quant_with_min_max_vars
  if kernel.shape.rank > 2:
    # Also where all channels share a scale: after a convolution the
    # converter folds batch norms into scales by channel only.
    op = tf.quantization.fake_quant_with_min_max_vars_per_channel
    limit = tf.broadcast_to(limit, kernel.shape[-1:])
  return op(kernel, -limit, limit, num_bits=num_bits, narrow_range=True)


def quantize_in_training(
    kernel: tf.Tensor,
    limit: tf.Tensor,
    num_bits: int,
    keep_non_zero: bool = False,
    covered: bool = False,
) -> tf.Tensor:
  """`quantize_over` in few passes over the memory of a kernel.

  The op that the converter understands goes through a kernel channel by
  channel, which lie apart: 4 to 10 times the time of this, an eighth of a
  training step of ResNet50. Equal but for weights within float32's rounding of
  the middle between two steps, a few in a million.

  Args:
    kernel: Tensor whose last axis is the output channel.
    limit: Upper end of the range, > 0, [channels] or a scalar.
    num_bits: Bits of the integer grid, 2 to 16.
    keep_non_zero: See `quantize_over`.
    covered: Whether no weight is larger than `limit`.
  """
  largest = constant(2.0**(num_bits - 1) - 1.0)
  steps = kernel * (largest / limit)
  integers = tf.floor(steps + constant(0.5))
  if not covered:
    integers = tf.raw_ops.ClipByValue(
        t=integers, clip_value_min=-largest, clip_value_max=largest)
  if keep_non_zero:
    integers = tf.where(
        tf.abs(steps) < constant(1.0), tf.sign(steps), integers)
  return integers * (limit / largest)


def fake_quantize_kernel(
    kernel: tf.Tensor,
    num_bits: int,
    per_channel: bool,
    training: bool,
    keep_non_zero: bool = False,
) -> tf.Tensor:
  """Quantizes a kernel over the range of its own largest magnitude.

  Nothing is clipped, so the straight-through gradient is the identity.

  Args:
    kernel: Tensor whose last axis is the output channel.
    num_bits: Bits of the integer grid, 2 to 16.
    per_channel: Whether every output channel has its own scale.
    training: Whether the result is differentiated.
    keep_non_zero: See `quantize_over`.
  """

  if not training:
    return quantize_over(
        kernel, kernel_range(kernel, per_channel), num_bits, keep_non_zero)
  return straight_through(
      lambda x: quantize_in_training(
          x, kernel_range(x, per_channel), num_bits, keep_non_zero,
          covered=True), kernel)
