"""Leaves whose computation is another in training or in an integer file."""

import functools
import inspect
import math

import tensorflow as tf

from modelgarden_opt.compression import grid
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import topology
from modelgarden_opt.compression.quantization import bias
from modelgarden_opt.compression.quantization import fake_quant
from modelgarden_opt.compression.quantization import kernel_quantizer
from modelgarden_opt.compression.quantization import quantizers


def _of(*names: str):
  """Makes a class the mixin of the leaves of float layers by these names."""

  def register(mixin: type) -> type:
    leaves.MIXINS.update(dict.fromkeys(names, mixin))
    return mixin

  return register


@_of('Conv2D', 'DepthwiseConv2D')
class RewiredConvolution(leaves.Rewired):
  """A convolution that pads half its kernel on every side, if so planned.

  A strided one with SAME padding adds less at the top and left of an even
  image. Shapes and variables are the same.
  """

  # Whether it pads so; decided by the plan.
  symmetric = False

  def rewire(self, plan, path, **kwargs):
    self.symmetric = plan.symmetric and self.padding == 'same' and (
        max(self.strides) > 1 and max(self.dilation_rate) == 1 and
        max(self.kernel_size) > 1 and all(k % 2 for k in self.kernel_size))
    return super().rewire(plan, path, **kwargs)

  def padded(self, inputs: tf.Tensor) -> tuple[tf.Tensor, str]:
    """Returns what the op reads, and the padding that is left to it."""
    if not self.symmetric:
      return inputs, self.padding
    sides = [[pixels // 2] * 2 for pixels in self.kernel_size]
    padded = tf.pad(inputs, [[0, 0], *sides, [0, 0]])
    return bias.hand_on(inputs, padded), 'valid'

  def _call_float(self, inputs, training: bool):
    inputs, padding = self.padded(inputs)
    with internals.replaced(self, padding=padding):
      return super()._call_float(inputs, training)


# What a normalization multiplies by in a file: at least this, this share of
# what it adds in units of the deviation of its input, and that one's floor.
_LEAST_SCALE, _LEAST_SHARE, _LEAST_DEVIATION = 1e-12, 1e-3, 1e-4


@_of(*topology.NORMS)
class RewiredNorm(leaves.Rewired):
  """A batch normalization whose statistics can be frozen late in training.

  The converter folds it into the convolution that it reads. A stand-alone
  one is exported as a depthwise convolution of one pixel, whose weights are 127
  steps each: one op, so that no product needs a range.
  """

  reads = (grid.State.GRID, grid.State.OPEN)
  # Whether training leaves `gamma` alone.
  freeze_scale = False
  # Of the scale of a stand-alone normalization.
  scale_quantizer: kernel_quantizer.KernelQuantizer | None = None

  def build(self, input_shape):
    super().build(input_shape)
    if self.incoming and grid.State.OPEN not in self.incoming and (
        self._plan and self._plan.enabled(
            'quantization', self.path, self.layer_type)):
      self.scale_quantizer = kernel_quantizer.KernelQuantizer()

  def _call_float(self, inputs, training: bool):
    training = training and not self.freeze_statistics
    quantizer = self.scale_quantizer
    if quantizer and quantizer.mode is quantizers.Mode.EXPORT:
      return self._exported(inputs, quantizer)
    alone = quantizer and bias.step_of(inputs) is not None
    constants = self._constants
    if not training and self.scale and (alone or bias.is_accumulated(inputs)):
      constants = {'gamma': self._gamma_of_file()}
    with internals.replaced(self, **constants):
      outputs = super(leaves.Rewired, self).call(inputs, training=training)
    step = bias.accumulator_step_of(inputs)
    if training or not (alone or step is not None):
      return outputs
    # What the file adds to the products.
    scale, offset = self._scale_and_offset()
    size = tf.abs(scale)
    if alone:
      step = bias.step_of(inputs) / 127.0
      size = tf.maximum(size, fake_quant.constant(fake_quant.MIN_KERNEL_RANGE))
    return outputs + bias.rounding_error(offset, step * size)

  @property
  def _constants(self) -> dict[str, tf.Tensor]:
    if not self.freeze_scale or not self.scale:
      return {}
    # A gradient of zero, not none: optimizers warn of a variable without one.
    gamma = tf.convert_to_tensor(self.gamma)
    return {'gamma': tf.stop_gradient(gamma) + gamma * fake_quant.constant(0.0)}

  def _gamma_of_file(self) -> tf.Tensor:
    """Returns `gamma`, kept away from zero for the sake of integers.

    Its product with the steps of kernel and input is that of the int32 bias:
    of zero there is no file, and next to zero the bias overflows. A channel
    that varies by less than a thousandth of its mean, so a dead one, varies by
    that much: at most a step of its output.
    """
    gamma = tf.convert_to_tensor(self._constants.get('gamma', self.gamma))
    deviation = tf.sqrt(self.moving_variance + self.epsilon)
    varies = tf.maximum(tf.sqrt(self.moving_variance), _LEAST_DEVIATION)
    least = _LEAST_SCALE
    if self.center:
      least = tf.maximum(least, _LEAST_SHARE * tf.abs(self.beta) / varies)
    least *= deviation
    return tf.where(tf.abs(gamma) < least,
                    tf.where(gamma < 0, -least, least), gamma)

  def _scale_and_offset(self) -> tuple[tf.Tensor, tf.Tensor]:
    scale = tf.math.rsqrt(self.moving_variance + self.epsilon)
    if self.scale:
      scale *= self._gamma_of_file()
    offset = -self.moving_mean * scale
    if self.center:
      offset += self.beta
    return scale, offset

  def _exported(self, inputs, quantizer) -> tf.Tensor:
    scale, offset = self._scale_and_offset()
    size = inputs.shape[-1]
    kernel = tf.reshape(
        quantizer(tf.reshape(scale, [1, 1, size]), False), [1, 1, size, 1])
    x = inputs if inputs.shape.rank == 4 else (
        tf.reshape(inputs, [-1, 1, 1, size]))
    x = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], 'VALID') + offset
    return x if inputs.shape.rank == 4 else (
        tf.reshape(x, [-1, *inputs.shape[1:]]))


@_of('AveragePooling2D')
class RewiredPooling(leaves.Rewired):
  """Average pooling, exported as a depthwise convolution of equal weights.

  XNNPACK has no integer average pooling. The weights, all of them a whole
  number of steps of their kernel, are exact.
  """

  def _call_float(self, inputs, training: bool):
    quantizer = self.output_quantizer
    exporting = quantizer and quantizer.mode is quantizers.Mode.EXPORT
    padded = any(size is None or size % stride for size, stride in zip(
        inputs.shape[1:3], self.strides))
    if padded or self.pool_size != self.strides:
      # A separate op, which rounds to the grid that it reads.
      return _on_grid_of(inputs, super(leaves.Rewired, self).call(inputs))
    if not exporting:
      return super(leaves.Rewired, self).call(inputs)
    kernel = fake_quant.equal_weights(
        1.0 / math.prod(self.pool_size), [*self.pool_size, inputs.shape[-1], 1])
    return tf.nn.depthwise_conv2d(
        inputs, kernel, [1, *self.strides, 1], 'VALID')


@_of(*topology.PASSING)
class RewiredPassing(leaves.Rewired):
  """A layer without arithmetic: the quantization step of its input stays."""

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    if self.layer_type in topology.IDENTITIES:
      self.reads = tuple(grid.State)

  def _made(self, inputs) -> grid.State:
    return grid.state_of(inputs)

  def _call_float(self, inputs, training: bool):
    if getattr(self, 'target_shape', None) == tuple(inputs.shape[1:]):
      return inputs
    call = super(leaves.Rewired, self).call
    takes_training = 'training' in inspect.signature(call).parameters
    outputs = call(inputs, training) if takes_training else call(inputs)
    if getattr(self, 'interpolation', '') == 'bilinear':
      outputs = _on_grid_of(inputs, outputs)
    step = bias.step_of(inputs)
    return outputs if step is None else bias.with_step(outputs, step)


def _on_grid_of(inputs: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
  """Returns means of a tensor's values, rounded in inference as in a file."""
  step = bias.step_of(inputs)
  return outputs if step is None else tf.round(outputs / step) * step


_PAIRWISE = {'Add': tf.add, 'Average': tf.add, 'Multiply': tf.multiply,
             'Maximum': tf.maximum, 'Minimum': tf.minimum}


@_of('Concatenate')
class RewiredConcatenation(leaves.Rewired):
  """A concatenation: whoever it alone reads leaves the rounding to it."""

  reads = (grid.State.GRID, grid.State.OPEN)


@_of(*_PAIRWISE)
class RewiredJoin(leaves.Rewired):
  """A join of many tensors: in a file of two at a time, each with a range."""

  partial_quantizers: dict = {}

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    if self.layer_type in topology.MERGES:
      self.reads = (grid.State.GRID, grid.State.OPEN)

  def build(self, input_shape):
    super().build(input_shape)
    count = len(input_shape) - (1 if self.layer_type == 'Average' else 2)
    if self._plan is None or count < 1:
      return
    found = {}
    for index in range(count):
      quantizer = self._plan.activation_quantizer(self.path, self.layer_type)
      if quantizer is not None:
        quantizer.build(self, f'partial_{index}')
        found[index] = quantizer
    self.partial_quantizers = found

  def _call_float(self, inputs, training: bool):
    rest = list(self.partial_quantizers.values())
    if not rest or rest[0].mode is quantizers.Mode.PASS_THROUGH:
      return super(leaves.Rewired, self).call(inputs)
    join = _PAIRWISE[self.layer_type]

    def joined(x, y):
      return rest.pop(0)(join(x, y), training) if rest else join(x, y)

    outputs = functools.reduce(joined, inputs)
    if self.layer_type == 'Average':
      outputs *= fake_quant.constant(1.0 / len(inputs))
    return outputs
