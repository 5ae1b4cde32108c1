"""Leaves: layers in which a transformed kernel meets its op.

A leaf is the float layer's class plus `Rewired`: same constructor, same
config, same variables at the same attribute paths. So a leaf is built from a
float layer's config and reads a float layer's checkpoint.
"""

import contextlib
import functools
import inspect
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import topology
from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.quantization import bias
from modelgarden_opt.compression.quantization import fake_quant
from modelgarden_opt.compression.quantization import quantizers


class Rewired:
  """Mixin: transforms a layer's kernel and quantizes its input and output."""

  # Declared on the class so that Keras does not track them: their variables
  # are weights of the layer, and checkpoint names shall have no detour.
  chain: transforms.TransformChain | None = None
  input_quantizer = None
  output_quantizer = None
  _plan: plan_lib.Plan | None = None
  freeze_statistics = False
  path = ''

  def rewire(
      self,
      plan: plan_lib.Plan,
      path: str,
      *,
      quantize_input: bool = False,
      quantize_output: bool = True,
  ) -> 'Rewired':
    """Attaches what the plan has for this layer; call it before `build`.

    Args:
      plan: Decides about transforms and quantizers by path and layer type.
      path: The layer's path in the model.
      quantize_input: Whether the layer reads the model's input.
      quantize_output: Whether the output leaves a unit (else a norm or an
        activation follows and takes care of it).

    Returns:
      The layer itself.
    """
    self.path = path
    self._plan = plan
    layer_type = rules.float_class(type(self)).__name__
    filters = plan.filters(path)
    if filters is not None:
      self.filters = filters
    if quantize_input:
      self.input_quantizer = plan.activation_quantizer(path, layer_type)
    if quantize_output:
      self.output_quantizer = plan.activation_quantizer(path, layer_type)
    return self

  def build(self, input_shape):
    super().build(input_shape)
    layer_type = rules.float_class(type(self)).__name__
    if self._plan and layer_type in topology.KERNELS:
      kernel = self.kernel_variable
      self.chain = transforms.TransformChain(
          self._plan.transforms(self.path, layer_type, tuple(kernel.shape)))
      self.chain.build(self, kernel)
    if self.input_quantizer:
      self.input_quantizer.build(self, 'input')
    if self.output_quantizer:
      self.output_quantizer.build(self, 'output')

  @property
  def kernel_variable(self) -> tf.Variable:
    """The variable that the float op would read directly."""
    return getattr(self, self._kernel_attribute)

  @property
  def _kernel_attribute(self) -> str:
    return topology.KERNELS[rules.float_class(type(self)).__name__]

  @contextlib.contextmanager
  def _kernel_replaced(self, kernel: tf.Tensor):
    # Past Layer.__setattr__, which would track the tensor in place of the
    # variable. The float layer's own `call` then reads the tensor.
    name = self._kernel_attribute
    variable = self.__dict__[name]
    self.__dict__[name] = kernel
    try:
      yield
    finally:
      self.__dict__[name] = variable

  @tf.autograph.experimental.do_not_convert
  def call(self, inputs, training=None):
    training = is_training(training)
    if self.input_quantizer:
      inputs = self.input_quantizer(inputs, training)
    outputs = self._call_float(inputs, training)
    if self.output_quantizer:
      outputs = self.output_quantizer(outputs, training)
    return outputs

  def _call_float(self, inputs, training: bool):
    if not self.chain:
      return super().call(inputs)
    kernel = self.chain(tf.convert_to_tensor(self.kernel_variable), training)
    with self._kernel_replaced(kernel):
      outputs = super().call(inputs)
    step = bias.step_of(inputs)
    kernel_step = None if training else self.chain.step(kernel)
    if step is None or kernel_step is None:
      return outputs
    step = step * kernel_step
    if self.use_bias:
      outputs += bias.rounding_error(self.bias, step)
    return bias.with_accumulator_step(outputs, step)


class _RewiredNorm(Rewired):
  """A batch normalization whose statistics can be frozen late in training."""

  def _call_float(self, inputs, training: bool):
    training = training and not self.freeze_statistics
    outputs = super(Rewired, self).call(inputs, training=training)
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


class _RewiredPooling(Rewired):
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
      return super(Rewired, self).call(inputs)
    height, width = self.pool_size
    kernel = fake_quant.equal_weights(
        1.0 / (height * width), [height, width, inputs.shape[-1], 1])
    return tf.nn.depthwise_conv2d(
        inputs, kernel, [1, *self.strides, 1], 'VALID')


class _RewiredPassing(Rewired):
  """A layer without arithmetic: the quantization step of its input stays."""

  def _call_float(self, inputs, training: bool):
    if getattr(self, 'target_shape', None) == tuple(inputs.shape[1:]):
      return inputs
    call = super(Rewired, self).call
    takes_training = 'training' in inspect.signature(call).parameters
    outputs = call(inputs, training) if takes_training else call(inputs)
    step = bias.step_of(inputs)
    return outputs if step is None else bias.with_step(outputs, step)


def is_training(training) -> bool:
  """Returns `training` as a Python bool; Keras' symbolic default is False.

  Quantizers and masks branch in Python, so that neither distribution
  strategies nor the converter ever see a conditional.
  """
  return training if isinstance(training, bool) else False


@functools.cache
def leaf_class(cls: type, suffix: str) -> type:
  """Returns the leaf class of a float layer class, e.g. `Conv2DQuantized`."""
  name = cls.__name__
  mixin = (_RewiredNorm if name in topology.NORMS else
           _RewiredPassing if name in topology.PASSING else
           _RewiredPooling if name == 'AveragePooling2D' else Rewired)
  leaf = type(cls.__name__ + suffix, (mixin, cls), {'__module__': __name__})
  return tf_keras.utils.register_keras_serializable(package=rules.PACKAGE)(leaf)


def to_leaf(layer: tf_keras.layers.Layer, suffix: str) -> Rewired:
  """Returns an unbuilt leaf with the config of a float layer."""
  float_layer = rules.float_class(type(layer))
  return leaf_class(float_layer, suffix).from_config(full_config(layer))


def full_config(layer, config: dict[str, Any] | None = None) -> dict[str, Any]:
  """Returns a layer's config with the arguments that `get_config` forgets.

  `DepthwiseSeparableConvBlock`, for one, forgets its kernel size and its
  dilation; a twin built from its config alone would be another block.
  """
  config = layer.get_config() if config is None else config
  constructor = rules.float_class(type(layer)).__init__
  names = inspect.signature(constructor).parameters.keys()
  for name in names - config.keys():
    for attribute in (f'_{name}', name):
      if hasattr(layer, attribute):
        config = {**config, name: getattr(layer, attribute)}
        break
  return config
