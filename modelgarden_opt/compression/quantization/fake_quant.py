"""Fake quantization with a straight-through gradient.

Forward values are those of TensorFlow's `FakeQuantWithMinMaxVars` ops, which
the TFLite converter understands; the gradients are written here, because the
ops' own compute two more outputs (for learned ranges) that nobody reads.

Source: Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", arXiv:1712.05877, section 3.
"""

import tensorflow as tf

# Kernels whose largest magnitude is below this (dead or fully pruned channels)
# are quantized as if it were this: a scale near zero would overflow the int32
# bias of the channel, whose scale is input scale times kernel scale.
MIN_KERNEL_RANGE = 1e-4


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
  behind a ReLU it is the ReLU's own. As a range from 0 clips at 0 by itself,
  the ReLU costs no pass over the data either.

  Args:
    x: Float tensor of any shape; with `relu`, what the ReLU would read.
    minimum: Scalar lower end, <= every value (behind the ReLU) and <= 0.
    maximum: Scalar upper end, >= every value (behind the ReLU) and >= 0.
    num_bits: Bits of the integer grid, 2 to 16.
    relu: `relu` or `relu6` to compute this first; `minimum` must be 0 then,
      and `maximum` at most 6 for `relu6`.
  """

  @tf.custom_gradient
  def straight_through(x, minimum, maximum):
    y = fake_quantize(x, minimum, maximum, num_bits)

    def gradient(dy):
      if relu == 'relu':
        dy = tf.raw_ops.ReluGrad(gradients=dy, features=x)
      elif relu == 'relu6':
        dy = tf.raw_ops.Relu6Grad(gradients=dy, features=x)
      return dy, None, None

    return y, gradient

  return straight_through(x, minimum, maximum)


def fake_quantize_fixed(
    x: tf.Tensor, minimum: float, maximum: float, num_bits: int
) -> tf.Tensor:
  """`fake_quantize` in training, over a range that stands still.

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
  axes = list(range(kernel.shape.rank - 1)) if per_channel else None
  return tf.maximum(tf.reduce_max(tf.abs(kernel), axes), MIN_KERNEL_RANGE)


def fake_quantize_kernel(
    kernel: tf.Tensor, num_bits: int, per_channel: bool, training: bool
) -> tf.Tensor:
  """Quantizes and dequantizes a kernel symmetrically, in narrow range.

  The range is the kernel's own largest magnitude, so nothing is clipped and
  the straight-through gradient is the identity.

  Args:
    kernel: Tensor whose last axis is the output channel.
    num_bits: Bits of the integer grid, 2 to 16; 8 gives -127 to 127.
    per_channel: Whether every output channel has its own scale.
    training: Whether the result is differentiated.
  """

  def quantize(kernel):
    limit = kernel_range(kernel, per_channel)
    op = (tf.quantization.fake_quant_with_min_max_vars_per_channel
          if per_channel else tf.quantization.fake_quant_with_min_max_vars)
    return op(kernel, -limit, limit, num_bits=num_bits, narrow_range=True)

  if not training:
    return quantize(kernel)
  return tf.custom_gradient(lambda k: (quantize(k), lambda dy: dy))(kernel)
