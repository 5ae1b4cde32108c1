"""The quantizers: of a kernel (a transform) and of an activation."""

import enum

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.quantization import bias
from modelgarden_opt.compression.quantization import fake_quant


class Mode(enum.Enum):
  """What a quantizer does with the values that pass it.

  EXPORT is QUANTIZE without the rounding of biases, which the converter does.
  """
  QUANTIZE = 'quantize'
  EXPORT = 'export'
  CALIBRATE = 'calibrate'
  PASS_THROUGH = 'pass_through'


class KernelQuantizer(transforms.KernelTransform):
  """Fake quantization of a kernel: symmetric, narrow range, last value."""

  technique = 'quantization'

  def __init__(self, num_bits: int = 8, per_channel: bool = True):
    """Initializes the transform.

    Args:
      num_bits: Bits of the integer grid, 2 to 8.
      per_channel: Whether every output channel has its own scale.
    """
    super().__init__()
    self.num_bits = num_bits
    self.per_channel = per_channel
    self.mode = Mode.QUANTIZE
    self._depthwise = False

  def build(self, layer: tf_keras.layers.Layer, kernel: tf.Variable) -> None:
    self._depthwise = isinstance(layer, tf_keras.layers.DepthwiseConv2D)

  def __call__(self, kernel: tf.Tensor, training: bool) -> tf.Tensor:
    if self.mode in (Mode.PASS_THROUGH, Mode.CALIBRATE):
      return kernel
    shape = kernel.shape
    if self._depthwise:
      # [h, w, c, multiplier]: the output channel is c * multiplier.
      kernel = tf.reshape(kernel, [*shape[:2], shape[2] * shape[3]])
    kernel = fake_quant.fake_quantize_kernel(
        kernel, self.num_bits, self.per_channel, training)
    return tf.reshape(kernel, shape) if self._depthwise else kernel

  def step(self, kernel: tf.Tensor) -> tf.Tensor | None:
    """Returns the step of a quantized kernel, scalar or [channels].

    Args:
      kernel: What `__call__` returned.

    Returns:
      None where no step is wanted, see `Mode`.
    """
    if self.mode is not Mode.QUANTIZE:
      return None
    if self._depthwise:
      kernel = tf.reshape(kernel, [*kernel.shape[:2], -1])
    limit = fake_quant.kernel_range(kernel, self.per_channel)
    return limit / (2.0**(self.num_bits - 1) - 1.0)


class ActivationQuantizer(tf.Module):
  """Fake quantization of an activation: asymmetric, one range a tensor.

  The range is a pair of variables: calibrated before training, then a moving
  average of every batch's extremes, held still once `frozen`.
  """

  def __init__(
      self,
      num_bits: int = 8,
      momentum: float = 0.99,
      lower: float | None = None,
      fixed: tuple[float, float] | None = None,
  ):
    """Initializes the quantizer.

    Args:
      num_bits: Bits of the integer grid, 2 to 16.
      momentum: Weight of the old range in the moving average, in [0, 1).
      lower: A lower end known beforehand (0 behind a ReLU); it is not
        observed then.
      fixed: A range known beforehand; nothing is observed then.
    """
    super().__init__()
    self.num_bits = num_bits
    self.momentum = momentum
    self.mode = Mode.QUANTIZE
    self.frozen = False
    self._lower = lower
    self._fixed = fixed
    self._num_calibrated = 0

  def build(self, layer: tf_keras.layers.Layer, name: str) -> None:
    """Creates the range variables as weights of `layer`."""
    if self._fixed:
      self.minimum, self.maximum = map(tf.constant, self._fixed)
      return

    def variable(suffix, value):
      return layer.add_weight(
          name=f'quantized_{name}_{suffix}',
          shape=(),
          initializer=tf_keras.initializers.Constant(value),
          trainable=False,
          synchronization=tf.VariableSynchronization.ON_READ,
          aggregation=tf.VariableAggregation.MEAN)

    # Initial values as in TFMOT's MovingAverageQuantizer.
    self.maximum = variable('max', 6.0)
    if self._lower is None:
      self.minimum = variable('min', -6.0)
    else:
      self.minimum = tf.constant(self._lower)

  def __call__(self, x: tf.Tensor, training: bool) -> tf.Tensor:
    if self.mode is Mode.PASS_THROUGH:
      return x
    if not self._fixed:
      if self.mode is Mode.CALIBRATE:
        self._observe(x, 1.0 / self._next_calibration_step())
      elif training and not self.frozen:
        self._observe(x, 1.0 - self.momentum)
    if self.mode is Mode.CALIBRATE:
      return x
    y = fake_quant.fake_quantize(
        x, self.minimum, self.maximum, self.num_bits, training)
    if self.mode is Mode.QUANTIZE:
      levels = 2.0**self.num_bits - 1.0
      bias.with_step(y, (self.maximum - self.minimum) / levels)
    return y

  def _next_calibration_step(self) -> int:
    # Eager calibration: the n-th batch enters a plain mean with weight 1/n.
    self._num_calibrated += 1
    return self._num_calibrated

  def _observe(self, x: tf.Tensor, weight: float) -> None:
    """Moves the range towards the extremes of `x` (0 always included)."""
    x = tf.stop_gradient(x)
    high = tf.maximum(tf.reduce_max(x), 0.0)
    self.maximum.assign_add((high - self.maximum) * weight)
    if self._lower is None:
      low = tf.minimum(tf.reduce_min(x), 0.0)
      self.minimum.assign_add((low - self.minimum) * weight)

  def reset(self) -> None:
    """Starts a calibration afresh."""
    self._num_calibrated = 0
