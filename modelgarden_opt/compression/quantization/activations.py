"""Quantized activation layers, and which float layers may become one.

How a function is computed on integers is its recipe, see `functions`.
"""

import functools

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import grid
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import topology
from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.quantization import functions
from modelgarden_opt.compression.quantization import quantizers


class _Bound:
  """The quantizers of one activation as functions of a tensor."""

  def __init__(self, by_name, training: bool):
    self.training = training
    for name, quantizer in by_name.items():
      setattr(self, name, functools.partial(quantizer, training=training))


@tf_keras.utils.register_keras_serializable(package=rules.PACKAGE)
class ActivationQuantized(grid.Noting, tf_keras.layers.Activation):
  """An activation layer computed step by step on quantized tensors."""

  # Declared on the class so that Keras does not track it: the ranges are
  # weights of this layer, and their checkpoint names shall have no detour.
  _quantizers = None
  # Of a tensor that neither a quantizer has made nor an op that fuses.
  input_quantizer = None
  # Of the output, where a rule leaves the function in float.
  output_quantizer = None
  _plan = None
  _is_open = False
  # Whether hard-swish is left in one piece, for the converter to fuse.
  fused = False
  path = ''

  def __init__(self, activation, **kwargs):
    super().__init__(activation, **kwargs)
    self._name_of_function = functions.function_name(self.activation)
    self._quantizers = {}

  @property
  def is_hard_swish(self) -> bool:
    """Whether TFLite has one op for the function and slower ones beside it."""
    return self._name_of_function == 'hard_swish'

  def rewire(
      self,
      plan: plan_lib.Plan,
      path: str,
      layer_type: str = 'Activation',
      quantize_output: bool = True,
  ) -> 'ActivationQuantized':
    """Attaches the quantizers that the plan has for this layer.

    Args:
      plan: Decides about quantizers by path and layer type.
      path: The layer's path in the model.
      layer_type: What rules call it.
      quantize_output: Whether no join follows that quantizes what it reads.

    Returns:
      The layer itself.

    Raises:
      ValueError: If the function has no integer recipe.
    """
    self.path = path
    self._plan = plan
    self._layer_type = layer_type
    if not plan.enabled('quantization', path, layer_type):
      return self
    reason = functions.problem(self.activation)
    if reason:
      raise ValueError(f'{path}: {reason}')
    self._is_open = not quantize_output and (
        self._name_of_function in functions.RELUS)
    if self._is_open:
      return self
    for key, known in functions.RECIPES[self._name_of_function].ranges.items():
      self._quantizers[key] = plan.activation_quantizer(
          path, layer_type, **known)
    return self

  def build(self, input_shape):
    super().build(input_shape)
    self._quantize_float_input()
    for key, quantizer in {
        'output': self.output_quantizer, **self._quantizers}.items():
      if quantizer is not None:
        quantizer.build(self, key)

  def note_incoming(self, states):
    super().note_incoming(states)
    # A layer that is called again may read a tensor of another kind.
    if self.built:
      self._quantize_float_input()

  def _quantize_float_input(self) -> None:
    if self._quantizers and 'input' not in self._quantizers and (
        self.input_quantizer is None and
        self.incoming == [grid.State.FLOAT]):
      self.input_quantizer = self._plan.activation_quantizer(
          self.path, self._layer_type)
      if self.input_quantizer is not None:
        self.input_quantizer.build(self, 'input')

  @tf.autograph.experimental.do_not_convert
  def call(self, inputs, training=None, name=None):
    del name  # Of the function, where a functional model calls it directly.
    training = transforms.is_training(training)
    if self.input_quantizer is not None and (
        self.incoming == [grid.State.FLOAT]):
      inputs = self.input_quantizer(inputs, training)
    outputs = self._compute(inputs, training)
    if self.output_quantizer is not None:
      outputs = self.output_quantizer(outputs, training)
    quantized = self._quantizers or self.output_quantizer is not None
    return self.note(outputs, grid.State.GRID if quantized else (
        grid.State.OPEN if self._is_open else grid.State.FLOAT))

  def _compute(self, inputs, training: bool):
    active = [q for q in self._quantizers.values()
              if q.mode is not quantizers.Mode.PASS_THROUGH]
    if not active:
      return self.activation(inputs)
    bound = _Bound(self._quantizers, training)
    recipe = functions.TABLE if self.fused else (
        functions.RECIPES[self._name_of_function])
    return recipe.compute(inputs, self.activation, bound)


def fuse_hard_swish(model: tf_keras.Model, fused: bool) -> None:
  """Chooses how the hard-swish of a model is computed when it is traced next.

  Args:
    model: A quantized model.
    fused: Whether in one piece, or step by step as it was trained.
  """
  for layer in internals.layers_of(model):
    if isinstance(layer, ActivationQuantized):
      layer.fused = fused and layer.is_hard_swish


def name_of(layer: tf_keras.layers.Layer) -> str:
  """Returns the name of the function that an activation layer computes."""
  return functions.function_name(_function_of(layer))


def is_activation(layer: tf_keras.layers.Layer) -> bool:
  """Whether a layer computes an activation function (and not the identity).

  A function that a functional model calls directly is a `TFOpLambda` there.
  """
  kind = type(layer).__name__
  if kind == 'TFOpLambda':
    name = functions.function_name(layer.function)
    return name in functions.RECIPES and not functions.is_linear(layer.function)
  if kind in ('Activation', 'ActivationQuantized'):
    return not functions.is_linear(layer.activation)
  return kind in topology.ACTIVATIONS


def reads_own_range(layer: tf_keras.layers.Layer) -> bool:
  """Whether the twin of an activation layer quantizes whatever it reads."""
  function = _function_of(layer)
  recipe = functions.RECIPES.get(functions.function_name(function))
  return recipe is not None and 'input' in recipe.ranges


def has_open_end(layer: tf_keras.layers.Layer) -> bool:
  """Whether a runtime fuses the activation of a layer into what it reads.

  Args:
    layer: An activation layer, or a convolution with an activation.
  """
  if not hasattr(layer, 'activation') and not is_activation(layer):
    return False
  return functions.function_name(_function_of(layer)) in functions.RELUS


def problem_of_layer(layer: tf_keras.layers.Layer) -> str:
  """Returns why an activation layer cannot be quantized, '' if it can."""
  kind = type(layer).__name__
  if kind == 'ReLU' and (layer.threshold or (
      layer.max_value is not None and
      (layer.max_value != 6 or layer.negative_slope))):
    return ('of the ReLU layers only ReLU(), ReLU(6) and those with a '
            'negative_slope can be quantized')
  if kind == 'Softmax' and layer.axis != -1:
    return 'a softmax can be quantized over the last axis only'
  if kind == 'TFOpLambda':
    node = layer.inbound_nodes[0]
    if node.call_args[1:] or node.call_kwargs.keys() - {'name'}:
      return 'a function with arguments cannot be quantized; call a layer'
  return functions.problem(_function_of(layer))


# Functions that hand on what they get. The Model Garden's own relu6 begins with
# the second.
_WITHOUT_ARITHMETIC = ('identity', 'convert_to_tensor_v2_with_dispatch')


class Passing(grid.Noting, tf_keras.layers.Layer):
  """Hands on its input, and whatever is known of it."""

  @tf.autograph.experimental.do_not_convert
  def call(self, inputs, **kwargs):
    del kwargs  # Of the function that it replaces: a name.
    self.mark_incoming(inputs)
    return self.note(inputs)


def is_passing(layer: tf_keras.layers.Layer) -> bool:
  """Whether a layer of a functional model hands on what it gets."""
  kind = type(layer).__name__
  if kind == 'TFOpLambda':
    return functions.function_name(layer.function) in _WITHOUT_ARITHMETIC
  return kind == 'Passing' or (
      kind == 'Activation' and functions.is_linear(layer.activation))


def to_activation(activation) -> ActivationQuantized:
  """Returns the unbuilt twin of an activation layer or function."""
  if isinstance(activation, tf_keras.layers.Layer):
    return ActivationQuantized(_function_of(activation), name=activation.name)
  return ActivationQuantized(activation)


def _function_of(layer: tf_keras.layers.Layer) -> functions.Function:
  kind = type(layer).__name__
  if kind == 'TFOpLambda':
    return layer.function
  if kind == 'ReLU':
    if layer.negative_slope:
      return functions.LeakyRelu(layer.negative_slope)
    return tf.nn.relu if layer.max_value is None else tf.nn.relu6
  if kind == 'LeakyReLU':
    return functions.LeakyRelu(layer.alpha)
  if kind == 'Softmax':
    return tf_keras.activations.softmax
  return layer.activation
