"""Leaves whose computation is another in training or in an integer file."""

import functools
import inspect
import math

import tensorflow as tf

from modelgarden_opt.compression import grid
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import topology
from modelgarden_opt.compression.quantization import bias
from modelgarden_opt.compression.quantization import fake_quant
from modelgarden_opt.compression.quantization import quantizers


def _of(*names: str):
  """Makes a class the mixin of the leaves of float layers by these names."""

  def register(mixin: type) -> type:
    leaves.MIXINS.update(dict.fromkeys(names, mixin))
    return mixin

  return register


@_of(*topology.NORMS)
class RewiredNorm(leaves.Rewired):
  """A batch normalization whose statistics can be frozen late in training."""

  # The converter folds it into the convolution that it reads.
  reads = (grid.State.GRID, grid.State.OPEN)

  def _call_float(self, inputs, training: bool):
    training = training and not self.freeze_statistics
    outputs = super(leaves.Rewired, self).call(inputs, training=training)
    step = bias.accumulator_step_of(inputs)
    if training or step is None:
      return outputs
    # What the converter folds into the convolution in front.
    scale = tf.math.rsqrt(self.moving_variance + self.epsilon)
    if self.scale:
      scale *= self.gamma
    offset = -self.moving_mean * scale
    if self.center:
      offset += self.beta
    return outputs + bias.rounding_error(offset, step * tf.abs(scale))


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
    if not exporting or padded or self.pool_size != self.strides:
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
    step = bias.step_of(inputs)
    return outputs if step is None else bias.with_step(outputs, step)


_PAIRWISE = {'Add': tf.add, 'Average': tf.add, 'Multiply': tf.multiply,
             'Maximum': tf.maximum, 'Minimum': tf.minimum}


@_of(*_PAIRWISE)
class RewiredJoin(leaves.Rewired):
  """A join of many tensors: in a file of two at a time, each with a range."""

  partial_quantizers: dict = {}

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
