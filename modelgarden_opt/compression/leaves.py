"""Leaves: layers in which a transformed kernel meets its op.

A leaf is the float layer's class plus `Rewired`: same constructor, same
config, same variables at the same attribute paths. So a leaf is built from a
float layer's config and reads a float layer's checkpoint.
"""

import functools
import inspect
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import grid
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import kernels
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import topology
from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.quantization import activations
from modelgarden_opt.compression.quantization import bias
from modelgarden_opt.compression.quantization import functions


class Rewired(grid.Noting):
  """Mixin: transforms a layer's kernel and quantizes its input and output."""

  # Declared on the class so that Keras does not track them: their variables
  # are weights of the layer, and checkpoint names shall have no detour.
  chain: transforms.TransformChain | None = None
  input_quantizers: dict[int, Any] = {}
  output_quantizer = None
  _plan: plan_lib.Plan | None = None
  freeze_statistics = False
  path = ''
  # How inputs may have been made for the op to be one on integers.
  reads = (grid.State.GRID,)

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    # The activation that the float layer computes itself, quantized.
    self.fused_activation = None

  def rewire(
      self, plan: plan_lib.Plan, path: str, *, quantize_output: bool = True
  ) -> 'Rewired':
    """Attaches what the plan has for this layer; call it before `build`.

    Args:
      plan: Decides about transforms and quantizers by path and layer type.
      path: The layer's path in the model.
      quantize_output: Whether the output leaves a unit (else a norm or an
        activation follows and takes care of it).

    Returns:
      The layer itself.
    """
    self.path = path
    self._plan = plan
    self._quantize_output = quantize_output
    filters = plan.filters(path)
    if filters is not None:
      self.filters = filters
    if quantize_output:
      self.output_quantizer = plan.activation_quantizer(path, self.layer_type)
    return self

  @property
  def layer_type(self) -> str:
    """Class name of the float layer."""
    return rules.float_type(self)

  def build(self, input_shape):
    super().build(input_shape)
    if self._plan is None:
      return
    if self.kernel_attribute:
      kernel = self.kernel_variable
      self.chain = transforms.TransformChain(self._plan.transforms(
          kernels.Kernel(self.path, self.layer_type, tuple(kernel.shape),
                         tuple(getattr(self, 'strides', ())))))
      self.chain.build(self, kernel)
    if self.layer_type in topology.KERNELS:
      self._fuse_activation()
    self._quantize_float_inputs()
    if self.output_quantizer:
      self.output_quantizer.build(self, 'output')

  def _fuse_activation(self) -> None:
    """Takes over the activation of a layer: its output is the only tensor."""
    if functions.is_linear(self.activation) or not self._plan.enabled(
        'quantization', self.path, self.layer_type):
      return
    self.output_quantizer = None
    self.fused_activation = activations.ActivationQuantized(
        self.activation).rewire(
            self._plan, self.path, self.layer_type, self._quantize_output)

  def note_incoming(self, states):
    super().note_incoming(states)
    # A layer that is called again may read a tensor of another kind.
    if self.built and self._plan is not None:
      self._quantize_float_inputs()

  def _quantize_float_inputs(self) -> None:
    """Makes quantizers of the inputs that no quantizer has made."""
    single = len(self.incoming) == 1
    found = dict(self.input_quantizers)
    for index, state in enumerate(self.incoming):
      if state in self.reads or index in found:
        continue
      quantizer = self._plan.activation_quantizer(self.path, self.layer_type)
      if quantizer is not None:
        quantizer.build(self, 'input' if single else f'input_{index}')
        found[index] = quantizer
    self.input_quantizers = found

  @property
  def _quantizers_due(self) -> dict[int, Any]:
    """Quantizers of this call: what is on a grid is not quantized again."""
    return {index: quantizer
            for index, quantizer in self.input_quantizers.items()
            if self.incoming[index] not in self.reads}

  @property
  def kernel_variable(self) -> tf.Variable:
    """The variable that the float op would read directly."""
    return getattr(self, self.kernel_attribute)

  @property
  def kernel_attribute(self) -> str:
    """Name of the attribute with the kernel, '' without one."""
    return topology.KERNELS.get(self.layer_type, '')

  @tf.autograph.experimental.do_not_convert
  def call(self, inputs, training=None):
    training = transforms.is_training(training)
    self.mark_incoming(inputs)
    inputs = quantized_inputs(self._quantizers_due, inputs, training)
    outputs = self._call_float(inputs, training)
    if self.fused_activation is not None:
      return self.note(self.fused_activation(
          grid.mark(outputs, grid.State.OPEN), training=training))
    if self.output_quantizer:
      outputs = self.output_quantizer(outputs, training)
      return self.note(outputs, grid.State.GRID)
    return self.note(outputs, self._made(inputs))

  def _made(self, inputs) -> grid.State:
    """How an output that is not quantized was made."""
    del inputs
    return (grid.State.OPEN if self.layer_type in topology.FUSING
            else grid.State.FLOAT)

  def _call_float(self, inputs, training: bool):
    if not self.chain:
      return super().call(inputs)
    kernel = self.chain(tf.convert_to_tensor(self.kernel_variable), training)
    replaced = {self.kernel_attribute: kernel}
    if self.fused_activation is not None:
      replaced['activation'] = tf_keras.activations.linear
    with internals.replaced(self, **replaced):
      outputs = super().call(inputs)
    if self.chain.computes_on_integers:
      bias.with_accumulated(outputs)
    step = bias.step_of(inputs)
    kernel_step = None if training else self.chain.step(kernel)
    if step is None or kernel_step is None:
      return outputs
    step = step * kernel_step
    if self.use_bias:
      outputs += bias.rounding_error(self.bias, step)
    return bias.with_accumulator_step(outputs, step)


def quantized_inputs(by_index, inputs, training: bool):
  """Returns the inputs of a layer, some of them quantized.

  Args:
    by_index: The quantizers by the inputs' numbers.
    inputs: Tensors, nested in any way.
    training: Whether the quantizers' ranges move.
  """
  if not by_index:
    return inputs
  flat = tf.nest.flatten(inputs)
  for index, quantizer in by_index.items():
    x = quantizer(flat[index], training)
    # One that lets pass returns the tensor that others read, too.
    flat[index] = grid.mark(
        tf.identity(x) if x is flat[index] else x, grid.State.GRID)
  return tf.nest.pack_sequence_as(inputs, flat)


# Class name of a float layer -> the mixin of its leaf, if not `Rewired`.
MIXINS: dict[str, type] = {}


@functools.cache
def leaf_class(cls: type, suffix: str) -> type:
  """Returns the leaf class of a float layer class, e.g. `Conv2DQuantized`."""
  mixin = MIXINS.get(cls.__name__, Rewired)
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
