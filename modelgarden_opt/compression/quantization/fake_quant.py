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


def nudged_range(
    minimum: tf.Tensor, maximum: tf.Tensor, num_bits: int
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the range moved so that 0 is exactly representable.

  Args:
    minimum: Scalar lower end, <= 0.
    maximum: Scalar upper end, >= 0 and > `minimum`.
    num_bits: Bits of the integer grid, 2 to 16.
  """
  # Asking the op itself: it clips what lies outside to the nudged range, and
  # a formula written anew may round a zero point of x.5 the other way.
  outside = tf.stack([2.0 * minimum - 1.0, 2.0 * maximum + 1.0])
  ends = tf.quantization.fake_quant_with_min_max_vars(
      outside, minimum, maximum, num_bits=num_bits)
  return ends[0], ends[1]


def fake_quantize(
    x: tf.Tensor,
    minimum: tf.Tensor,
    maximum: tf.Tensor,
    num_bits: int,
    training: bool,
) -> tf.Tensor:
  """Quantizes and dequantizes an activation over one asymmetric range.

  Args:
    x: Float tensor of any shape.
    minimum: Scalar lower end of the range, <= 0.
    maximum: Scalar upper end of the range, >= 0.
    num_bits: Bits of the integer grid, 2 to 16.
    training: Whether the result is differentiated. Inference graphs get the
      bare op, which is what the converter looks for.

  Returns:
    A tensor like `x`. Its gradient is passed where `x` lies inside the nudged
    range and stopped elsewhere; the range gets none.
  """
  if not training:
    return tf.quantization.fake_quant_with_min_max_vars(
        x, minimum, maximum, num_bits=num_bits)

  @tf.custom_gradient
  def straight_through(x, minimum, maximum):
    y = tf.quantization.fake_quant_with_min_max_vars(
        x, minimum, maximum, num_bits=num_bits)

    def gradient(dy):
      low, high = nudged_range(minimum, maximum, num_bits)
      inside = tf.logical_and(x >= low, x <= high)
      return tf.where(inside, dy, tf.zeros_like(dy)), None, None

    return y, gradient

  return straight_through(x, minimum, maximum)


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
