"""The quantizer of a kernel: the last transform that it passes."""

from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.quantization import fake_quant
from modelgarden_opt.compression.quantization import quantizers

# Kernels of at least so many bits have the zeros of their mask, and no others.
_PLANNED_ZEROS_BITS = 8


class KernelQuantizer(transforms.KernelTransform):
  """Fake quantization of a kernel: symmetric, narrow range, last value."""

  technique = 'quantization'

  def __init__(
      self, num_bits: int = 8, per_channel: bool = True, reason: str = ''):
    """Initializes the transform.

    Args:
      num_bits: Bits of the integer grid, 2 to 8.
      per_channel: Whether every output channel has its own scale.
      reason: Why it does not have the bits that the block asks for, or empty.
    """
    super().__init__()
    self._reason = reason
    self.num_bits = num_bits
    self.per_channel = per_channel
    self.mode = quantizers.Mode.QUANTIZE
    self._depthwise = False
    self._keep_non_zero = False

  def follow(self, earlier: transforms.KernelTransform) -> None:
    """Preserves what an earlier transform made of the kernel.

    Weights that are shared by channels need one scale, to stay shared. What a
    mask or a cluster keeps shall not be rounded to zero, so that a file's
    zeros are those that were planned. With 8 bits that costs next to nothing;
    with fewer it would move too many weights too far (docs/decisions.md), and
    more of them are zero than planned.
    """
    self._keep_non_zero = self.num_bits >= _PLANNED_ZEROS_BITS
    if earlier.shares_values:
      self.per_channel = False

  def build(self, layer: tf_keras.layers.Layer, kernel: tf.Variable) -> None:
    self._depthwise = isinstance(layer, tf_keras.layers.DepthwiseConv2D)

  def __call__(self, kernel: tf.Tensor, training: bool) -> tf.Tensor:
    if self.mode in (quantizers.Mode.PASS_THROUGH, quantizers.Mode.CALIBRATE):
      return kernel
    shape = kernel.shape
    if self._depthwise:
      # [h, w, c, multiplier]: the output channel is c * multiplier.
      kernel = tf.reshape(kernel, [*shape[:2], shape[2] * shape[3]])
    kernel = fake_quant.fake_quantize_kernel(
        kernel, self.num_bits, self.per_channel, training,
        self._keep_non_zero)
    return tf.reshape(kernel, shape) if self._depthwise else kernel

  def planned(self) -> dict[str, Any]:
    return {'num_bits': self.num_bits, 'bits_reason': self._reason}

  def step(self, kernel: tf.Tensor) -> tf.Tensor | None:
    """Returns the step of a quantized kernel, scalar or [channels].

    Args:
      kernel: What `__call__` returned.

    Returns:
      None where no step is wanted, see `Mode`.
    """
    if self.mode is not quantizers.Mode.QUANTIZE:
      return None
    if self._depthwise:
      kernel = tf.reshape(kernel, [*kernel.shape[:2], -1])
    limit = fake_quant.kernel_range(kernel, self.per_channel)
    return limit / (2.0**(self.num_bits - 1) - 1.0)
