"""Kernel ranges that are not the largest magnitude: found by search, learned.

A range that covers every weight spends its steps on a few outliers. With 4 bits
a smaller one, outside of which weights are clipped, has the smaller error.
"""

from collections.abc import Callable
import math

import tensorflow as tf
from tensorflow.python.eager import record

from modelgarden_opt.compression.quantization import fake_quant

# The candidates of a search are so many fractions of the largest magnitude:
# 1.00, 0.99, ... 0.01.
NUM_CANDIDATES = 100


def search(
    kernel: tf.Tensor,
    per_channel: bool,
    quantize: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> tf.Tensor:
  """Returns the range with the smallest squared error of a quantized kernel.

  All channels are searched at once. Of equal errors the larger range wins.

  Args:
    kernel: Tensor whose last axis is the output channel.
    per_channel: Whether every channel gets its own range.
    quantize: `quantize(kernel, range)` returns the quantized kernel.

  Returns:
    float32, [channels] or a scalar, >= `fake_quant.MIN_KERNEL_RANGE`.
  """
  largest = best = fake_quant.kernel_range(kernel, per_channel)
  axes = list(range(kernel.shape.rank - per_channel))
  least = tf.fill(largest.shape, math.inf)
  for candidate in range(NUM_CANDIDATES, 0, -1):
    limit = tf.maximum(largest * (candidate / NUM_CANDIDATES),
                       fake_quant.MIN_KERNEL_RANGE)
    error = tf.reduce_sum((quantize(kernel, limit) - kernel)**2, axes)
    best = tf.where(error < least, limit, best)
    least = tf.minimum(error, least)
  return best


def fake_quantize_clipped(
    kernel: tf.Tensor, limit: tf.Tensor, num_bits: int, keep_non_zero: bool
) -> tf.Tensor:
  """Quantizes a kernel in training over a constant range.

  The gradient is the identity, also for weights outside of the range: with
  none they could never return into it (docs/decisions.md).

  Args:
    kernel: Tensor whose last axis is the output channel.
    limit: Upper end of the range, > 0, [channels] or a scalar.
    num_bits: Bits of the integer grid, 2 to 8.
    keep_non_zero: See `fake_quant.quantize_over`.
  """
  return fake_quant.straight_through(
      lambda x: fake_quant.quantize_in_training(
          x, limit, num_bits, keep_non_zero), kernel)


def fake_quantize_learned(
    kernel: tf.Tensor, limit: tf.Tensor, num_bits: int, keep_non_zero: bool
) -> tf.Tensor:
  """Quantizes a kernel in training over a range that is trained.

  The gradient of the step s of n weights w, with levels from -Q to Q, is

      sum(dy * (round(w / s) - w / s  inside,  -Q or Q  outside)) / sqrt(n Q)

  and that of a weight is dy inside of the range and 0 outside. Here the range
  r = Q s is trained, because an optimizer that normalizes gradients (Adam)
  would move s by Q times as much of its size. r gets Q times that gradient,
  so gradient descent moves it exactly as it would move Q s.

  Source: Esser et al., "Learned Step Size Quantization", arXiv:1902.08153,
  section 2.1 and 2.2; levels of the narrow range, whose lower end is -Q.

  Args:
    kernel: Tensor whose last axis is the output channel.
    limit: Upper end of the range, [channels] or a scalar; values below
      `fake_quant.MIN_KERNEL_RANGE` count as that.
    num_bits: Bits of the integer grid, 2 to 8.
    keep_non_zero: See `fake_quant.quantize_over`.
  """
  levels = 2.0**(num_bits - 1) - 1.0
  num_weights = kernel.shape.num_elements() / limit.shape.num_elements()
  axes = list(range(kernel.shape.rank - limit.shape.rank))
  with record.stop_recording():
    floored = floor(limit)
    y = fake_quant.quantize_in_training(
        kernel, floored, num_bits, keep_non_zero)

  def gradient(dy):
    inside = tf.cast(tf.abs(kernel) <= floored, kernel.dtype)
    by_step = (y - inside * kernel) * (levels / floored)
    scale = levels / math.sqrt(num_weights * levels)
    return [dy * inside, scale * tf.reduce_sum(dy * by_step, axes)]

  record.record_operation('LearnedRange', [y], [kernel, limit], gradient)
  return y


def floor(limit: tf.Tensor) -> tf.Tensor:
  """Returns a range, or the smallest one that a kernel may have."""
  return tf.maximum(limit, fake_quant.constant(fake_quant.MIN_KERNEL_RANGE))
