"""The quantizer of an activation, and the modes of all quantizers."""

from collections.abc import Callable
import enum

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import replicas
from modelgarden_opt.compression.quantization import bias
from modelgarden_opt.compression.quantization import fake_quant
from modelgarden_opt.compression.quantization import observers


class Mode(enum.Enum):
  """What a quantizer does with the values that pass it.

  EXPORT is QUANTIZE without the rounding of biases, which the converter does.
  REPLACED is what `ActivationQuantizer.replacement` does.
  """
  QUANTIZE = 'quantize'
  EXPORT = 'export'
  CALIBRATE = 'calibrate'
  PASS_THROUGH = 'pass_through'
  REPLACED = 'replaced'


# The upper end of a range is at least this: a scale of zero has no inverse.
_MIN_RANGE = 1e-6
# That of a tensor of which nothing but zeros was seen. Any does, but runtimes
# refuse an output whose step is far below the product of those of its inputs.
_RANGE_OF_ZEROS = 1.0
# Both ends of a range that nobody has measured, as in TFMOT's
# MovingAverageQuantizer.
INITIAL = 6.0
_RELUS = {'relu': tf.nn.relu, 'relu6': tf.nn.relu6}


class ActivationQuantizer(tf.Module):
  """Fake quantization of an activation: asymmetric, one range a tensor.

  The range is a pair of variables: calibrated before training, then an
  envelope of the batches' extremes: it grows at once to a larger value and
  shrinks by moving average. So no value is clipped in training, and the
  gradient costs nothing (`fake_quant.fake_quantize_covered`). A batch of
  nothing but zeros, as a dead relu makes it, moves nothing: shrinking to no
  width, the range would leave the next layer's biases no room in int32. Once
  frozen the range is a pair of numbers, and values outside are clipped.
  """

  maximum: tf.Variable | None = None
  # Path of the layer by which rules decided about it.
  path = ''
  # Of the mode REPLACED: makes the output of the input.
  replacement: Callable[[tf.Tensor], tf.Tensor] | None = None

  def __init__(
      self,
      num_bits: int = 8,
      momentum: float = 0.99,
      lower: float | None = None,
      fixed: tuple[float, float] | None = None,
      at_least: float = _MIN_RANGE,
      calibration_method: str = 'moving_average',
      percentile: float = 99.99,
  ):
    """Initializes the quantizer.

    Args:
      num_bits: Bits of the integer grid, 2 to 16.
      momentum: Weight of the old range when it shrinks, in [0, 1).
      lower: A lower end known beforehand (0 after a ReLU); it is not
        observed then.
      fixed: A range known to cover every value; nothing is observed then.
      at_least: Smallest upper end of the range, > 0.
      calibration_method: Key of `observers.METHODS`.
      percentile: See `observers.Known`.
    """
    super().__init__()
    self.num_bits = num_bits
    self.momentum = momentum
    self.mode = Mode.QUANTIZE
    self._frozen: tuple[float, float] | None = None
    self._lower = lower
    self._fixed = fixed
    self._at_least = at_least
    self._calibration_method = calibration_method
    self._percentile = percentile
    self._observer: observers.Observer | None = None

  def build(self, layer: tf_keras.layers.Layer, name: str) -> None:
    """Creates the range variables as weights of `layer`."""
    if self._fixed:
      self.minimum, self.maximum = map(fake_quant.constant, self._fixed)
      return

    def variable(suffix, value):
      return layer.add_weight(
          name=f'quantized_{name}_{suffix}',
          shape=(),
          initializer=tf_keras.initializers.Constant(value),
          trainable=False,
          dtype=tf.float32,
          **replicas.SAME_ON_ALL)

    self.maximum = variable('max', INITIAL)
    if self._lower is None:
      self.minimum = variable('min', -INITIAL)
    else:
      self.minimum = fake_quant.constant(self._lower)

  def __call__(
      self, x: tf.Tensor, training: bool, relu: str | None = None
  ) -> tf.Tensor:
    """Returns `x` on the grid, or as it is, whatever the mode says.

    Args:
      x: Float tensor of any shape.
      training: Whether the range moves and the result is differentiated.
      relu: `relu` or `relu6` to be computed on `x` first.
    """
    if training and self.mode is Mode.QUANTIZE:
      return self._train(x, relu)
    if relu:
      x = _RELUS[relu](x)
    if self.mode is Mode.PASS_THROUGH:
      return x
    if self.mode is Mode.CALIBRATE:
      if not self._fixed:
        self._observer.observe(x)
      return x
    if self.mode is Mode.REPLACED:
      return self.replacement(x)
    y = self.quantized(x)
    if self.mode is Mode.QUANTIZE:
      bias.with_step(y, self.step)
    return y

  def quantized(self, x: tf.Tensor) -> tf.Tensor:
    """Returns `x` on the grid, whatever the mode."""
    return fake_quant.fake_quantize(
        x, self.minimum, self.maximum, self.num_bits)

  @property
  def step(self) -> tf.Tensor:
    """What an integer is worth."""
    return (self.maximum - self.minimum) / (2.0**self.num_bits - 1.0)

  def _train(self, x: tf.Tensor, relu: str | None) -> tf.Tensor:
    if self._frozen:
      return fake_quant.fake_quantize_fixed(x, *self._frozen, self.num_bits)
    minimum, maximum = self.minimum, self.maximum
    if not self._fixed:
      low, high = _union(*self._extremes(x, relu))
      zeros = high <= _MIN_RANGE
      high = tf.maximum(high, fake_quant.constant(self._at_least))
      if low is not None:
        zeros &= low >= 0.0
        minimum = self._envelope(low, self.minimum, tf.minimum, zeros)
      maximum = self._envelope(high, self.maximum, tf.maximum, zeros)
    return fake_quant.fake_quantize_covered(
        x, minimum, maximum, self.num_bits, relu)

  def _extremes(
      self, x: tf.Tensor, relu: str | None = None
  ) -> tuple[tf.Tensor | None, tf.Tensor]:
    """Returns the smallest value or 0 (None if known), and the largest one."""
    high = fake_quant.extreme(x, tf.raw_ops.Max)
    if relu == 'relu6':
      high = tf.minimum(high, fake_quant.constant(6.0))
    low = None
    if self._lower is None:
      low = tf.minimum(
          fake_quant.extreme(x, tf.raw_ops.Min), fake_quant.constant(0.0))
    return low, high

  def _envelope(
      self, value: tf.Tensor, end: tf.Variable, farther, zeros: tf.Tensor
  ) -> tf.Tensor:
    """Moves one end of the range: to `value` if that is outside of it.

    Else the end moves towards `value` by moving average, and not at all if the
    batch has nothing but `zeros`.
    """
    old = tf.convert_to_tensor(end)
    shrink = fake_quant.constant(1.0 - self.momentum)
    moved = tf.where(
        zeros, old, farther(value, old + (value - old) * shrink))
    end.assign(moved, read_value=False)
    return moved

  def start_calibration(self) -> None:
    """Forgets what an earlier calibration has observed."""
    self._observer = observers.METHODS[self._calibration_method](
        observers.Known(self.num_bits, self._lower, self._percentile))

  def end_batch(self) -> None:
    """Ends a batch; within one a layer may run several times."""
    self._observer.end_batch()

  def end_calibration(self) -> None:
    """Sets the range to what was observed, if anything was."""
    observer, self._observer = self._observer, None
    ends = observer.ends()
    if ends is None or not self.moves:
      return
    zeros = ends[1] <= 0 and (
        ends[0] >= 0 if self._lower is None else self._lower == 0)
    self.maximum.assign(max(
        _RANGE_OF_ZEROS if zeros else ends[1], self._at_least))
    if self._lower is None:
      self.minimum.assign(min(ends[0], 0.0))

  @property
  def moves(self) -> bool:
    """Whether the range is measured at all."""
    # A block may have sub-layers that its options never call.
    return not self._fixed and self.maximum is not None

  @property
  def moved(self) -> bool:
    """Whether the range is another one than at the beginning."""
    low, high = map(replicas.value, (self.minimum, self.maximum))
    return high != INITIAL or (self._lower is None and low != -INITIAL)

  def freeze(self) -> None:
    """Makes the range constant; train steps must be traced again."""
    if self.moves:
      self._frozen = (
          float(replicas.value(self.minimum)),
          float(replicas.value(self.maximum)))


def _union(
    low: tf.Tensor | None, high: tf.Tensor
) -> tuple[tf.Tensor | None, tf.Tensor]:
  """Returns the extremes of the global batch from those of a replica's."""
  ends = [high] if low is None else [high, -low]
  if tf.distribute.get_strategy().num_replicas_in_sync == 1:
    return low, high
  high, *low = tf.unstack(replicas.largest(tf.stack(ends)))
  return (-low[0] if low else None), high
