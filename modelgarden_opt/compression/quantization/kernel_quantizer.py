"""The quantizer of a kernel: the last transform that it passes."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.quantization import fake_quant
from modelgarden_opt.compression.quantization import kernel_ranges
from modelgarden_opt.compression.quantization import oscillation as osc
from modelgarden_opt.compression.quantization import quantizers
from modelgarden_opt.configs import quantization as quantization_cfg

# Kernels of at least so many bits have the zeros of their mask, and no others.
_PLANNED_ZEROS_BITS = 8


class KernelQuantizer(transforms.KernelTransform):
  """Fake quantization of a kernel: symmetric, narrow range.

  The range is the kernel's largest magnitude wherever it is used, or a variable
  of the layer: found by search when training starts, and constant or trained
  from then on.
  """

  technique = 'quantization'
  # None where the range is the largest magnitude.
  limit: tf.Variable | None = None

  def __init__(
      self,
      num_bits: int = 8,
      per_channel: bool = True,
      reason: str = '',
      weight_range: str = quantization_cfg.MAX,
      rounding: str = quantization_cfg.NEAREST,
      oscillation: osc.Settings | None = None,
  ):
    """Initializes the transform.

    Args:
      num_bits: Bits of the integer grid, 2 to 8.
      per_channel: Whether every output channel has its own scale.
      reason: Why it does not have the bits that the block asks for, or empty.
      weight_range: One of `quantization_cfg.WEIGHT_RANGES`.
      rounding: One of `quantization_cfg.ROUNDINGS`.
      oscillation: What is done about oscillating weights, None for nothing.
    """
    super().__init__()
    self._reason = reason
    self.num_bits = num_bits
    self.per_channel = per_channel
    self.mode = quantizers.Mode.QUANTIZE
    self.weight_range = weight_range
    self.rounding = rounding
    self.oscillation = oscillation and osc.Oscillation(oscillation)
    self.constrains = bool(oscillation) or weight_range != quantization_cfg.MAX
    self._depthwise = False
    self._keep_non_zero = False
    self._add_loss: Callable[[tf.Tensor], None] | None = None

  @property
  def largest(self) -> float:
    """The largest integer."""
    return 2.0**(self.num_bits - 1) - 1.0

  @property
  def computes_on_integers(self) -> bool:
    """Whether the kernel that it returns is one of a file of integers."""
    return self.mode in (quantizers.Mode.QUANTIZE, quantizers.Mode.EXPORT)

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
    if self.weight_range != quantization_cfg.MAX:
      trained = self.weight_range == quantization_cfg.LEARNED
      self.limit = layer.add_weight(
          name='quantized_kernel_range',
          shape=self._by_channel(kernel).shape[-1:] if self.per_channel else (),
          initializer='ones', trainable=trained, dtype=tf.float32,
          aggregation=tf.VariableAggregation.NONE if trained else (
              tf.VariableAggregation.ONLY_FIRST_REPLICA))
    if self.oscillation:
      self.oscillation.build(layer, kernel)
      self._add_loss = layer.add_loss

  def __call__(self, kernel: tf.Tensor, training: bool) -> tf.Tensor:
    if self.mode in (
        quantizers.Mode.PASS_THROUGH, quantizers.Mode.CALIBRATE):
      return kernel
    shape, kernel = kernel.shape, self._by_channel(kernel)
    quantized = self._quantize(kernel, training)
    if training and self.oscillation and self.oscillation.dampens:
      self._add_loss(self.oscillation.loss(
          kernel, quantized, self._range_of(kernel)))
    return tf.reshape(quantized, shape) if self._depthwise else quantized

  def _by_channel(self, kernel: tf.Tensor) -> tf.Tensor:
    """Returns a kernel whose last axis is the output channel."""
    if not self._depthwise:
      return kernel
    # [h, w, c, multiplier]: the output channel is c * multiplier.
    shape = kernel.shape
    return tf.reshape(kernel, [*shape[:2], shape[2] * shape[3]])

  def _quantize(self, kernel: tf.Tensor, training: bool) -> tf.Tensor:
    if self.limit is None:
      return fake_quant.fake_quantize_kernel(
          kernel, self.num_bits, self.per_channel, training,
          self._keep_non_zero)
    quantize, limit = fake_quant.quantize_over, self._range_of(kernel)
    if training and self.weight_range == quantization_cfg.LEARNED:
      # Whose gradient is not stopped by the floor.
      quantize, limit = kernel_ranges.fake_quantize_learned, (
          tf.convert_to_tensor(self.limit))
    elif training:
      quantize = kernel_ranges.fake_quantize_clipped
    return quantize(kernel, limit, self.num_bits, self._keep_non_zero)

  def _range_of(self, kernel: tf.Tensor) -> tf.Tensor:
    """Returns the range of a kernel by channel, [channels] or a scalar."""
    if self.limit is None:
      return fake_quant.kernel_range(kernel, self.per_channel)
    return kernel_ranges.floor(tf.convert_to_tensor(self.limit))

  def search_range(self, kernel: tf.Tensor) -> tf.Tensor:
    """Returns the range that quantizes a kernel with the smallest error.

    Args:
      kernel: A kernel of the layer.

    Returns:
      [channels], or a scalar where all channels share a scale.
    """
    return kernel_ranges.search(
        self._by_channel(tf.convert_to_tensor(kernel)), self.per_channel,
        lambda kernel, limit: fake_quant.quantize_over(
            kernel, limit, self.num_bits, self._keep_non_zero))

  def step_of(self, kernel: tf.Tensor) -> tf.Tensor:
    """Returns what an integer of a kernel is worth, to be broadcast to it.

    Args:
      kernel: A kernel of the layer.
    """
    kernel = tf.convert_to_tensor(kernel)
    step = self._range_of(self._by_channel(kernel)) / self.largest
    if self._depthwise and self.per_channel:
      step = tf.reshape(step, kernel.shape[2:])
    return step

  def start(self, kernel: tf.Variable) -> None:
    """Searches the range of the kernel that training starts from."""
    if self.limit is not None:
      self.limit.assign(self.search_range(kernel))
    if self.oscillation:
      self.oscillation.start(self._integers(tf.convert_to_tensor(kernel))[0])

  def _integers(self, kernel: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the integers of a kernel and the steps they count.

    Args:
      kernel: float32 tensor.

    Returns:
      float32 of the kernel's shape, and what multiplies it.
    """
    flat = self._by_channel(kernel)
    quantized = self._quantize(flat, training=False)
    step = self.step_of(kernel)
    return tf.round(tf.reshape(quantized, kernel.shape) / step), step

  def apply(self, kernel: tf.Variable) -> None:
    """Counts oscillations after a step, and sets frozen weights.

    Frozen are integers, not values: the weight follows the step of its kernel.
    What a mask has set to zero since then stays zero.
    """
    if not self.oscillation:
      return
    value = tf.convert_to_tensor(kernel)
    integers, step = self._integers(value)
    self.oscillation.observe(integers)
    if self.oscillation.freezes:
      held = self.oscillation.frozen() & (value != 0)
      kernel.assign(
          tf.where(held, self.oscillation.frozen_integers() * step, value),
          read_value=False)

  def apply_to_copy(self, copy: tf.Variable) -> None:
    """Leaves moving averages alone.

    An average is linear: that of an integer times its step, once frozen, is the
    integer times the average of the step.
    """

  def planned(self) -> dict[str, Any]:
    return {'num_bits': self.num_bits, 'bits_reason': self._reason}

  def summaries(self, kernel: tf.Tensor) -> dict[str, float]:
    found = self.oscillation.summaries() if self.oscillation else {}
    if self.limit is not None:
      flat = self._by_channel(tf.convert_to_tensor(kernel))
      clipped = tf.abs(flat) > self._range_of(flat)
      found['clipped'] = float(tf.reduce_mean(tf.cast(clipped, tf.float32)))
    return found

  def step(self, kernel: tf.Tensor) -> tf.Tensor | None:
    """Returns the step of a quantized kernel, scalar or [channels].

    Args:
      kernel: What `__call__` returned.

    Returns:
      None where no step is wanted, see `Mode`.
    """
    if self.mode is not quantizers.Mode.QUANTIZE:
      return None
    return self._range_of(self._by_channel(kernel)) / self.largest
