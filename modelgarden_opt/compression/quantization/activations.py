"""Quantized activations: which intermediate tensors get which range.

An integer runtime executes hard-swish and its relatives as several ops, each
of which rounds. Training has to see the same rounding, so every intermediate
tensor has a quantizer of its own. hard-swish is written as relu6(x + 3), times
1/6, times x, because XNNPACK takes these ops and leaves TFLite's int8
HARD_SWISH to the slow reference path; the converter fuses the product back
into HARD_SWISH unless the intermediate results are quantized.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import difflib
import functools
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import rules
from modelgarden_opt.compression.quantization import fake_quant
from modelgarden_opt.compression.quantization import quantizers

Function = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How one activation function is computed on integers.

  Attributes:
    ranges: What is known beforehand of each quantized tensor, by name:
      nothing, `lower`, or `fixed`. `input` and `output` are the function's own.
    compute: `compute(x, function, q)` with the float function and the
      quantizers as attributes of `q`.
  """
  ranges: Mapping[str, Mapping[str, Any]]
  compute: Callable[[tf.Tensor, Function, Any], tf.Tensor]


def _gate(x, q):
  """(relu6(x + 3)) / 6 of a quantized tensor."""
  # A sixth of the grid on [0, 6] is the grid on [0, 1], so training need not
  # quantize again; the converter needs to see it.
  shifted = q.shifted(x + fake_quant.constant(3.0), relu='relu6')
  gate = shifted * fake_quant.constant(1.0 / 6.0)
  return gate if q.training else q.gate(gate)


def _hard_sigmoid(x, function, q):
  del function
  return _gate(q.input(x), q)


def _hard_swish(x, function, q):
  del function
  x = q.input(x)
  return q.output(x * _gate(x, q))


def _swish(x, function, q):
  del function
  x = q.input(x)
  return q.output(x * q.gate(tf.sigmoid(x)))


def _relu(name):
  return Recipe({'output': {'lower': 0.0}},
                lambda x, f, q: q.output(x, relu=name))


_ANY = Recipe({'output': {}}, lambda x, f, q: q.output(f(x)))
# The input of a look-up-table op is a tensor of its own.
_TABLE = Recipe({'input': {}, 'output': {}},
                lambda x, f, q: q.output(f(q.input(x))))
# Ranges that TFLite prescribes for the outputs of LOGISTIC (and SOFTMAX), TANH.
_SIGMOID_RANGE = {'fixed': (0.0, 255.0 / 256.0)}
_TANH_RANGE = {'fixed': (-1.0, 127.0 / 128.0)}
# XNNPACK adds tensors whose steps differ by less than 2^10: an input that
# hardly differs from 0 would leave `x + 3` to the reference op.
_BESIDE_3 = {'at_least': 0.05}
_GATE_RANGES = {'input': _BESIDE_3, 'shifted': {'fixed': (0.0, 6.0)},
                'gate': {'fixed': (0.0, 1.0)}}

RECIPES = {
    'relu': _relu('relu'),
    'relu6': _relu('relu6'),
    'linear': _ANY,
    'identity': _ANY,
    'leaky_relu': _TABLE,
    'gelu': _TABLE,
    'sigmoid': Recipe({'input': {}, 'output': _SIGMOID_RANGE}, _TABLE.compute),
    'softmax': Recipe({'input': {}, 'output': _SIGMOID_RANGE}, _TABLE.compute),
    'tanh': Recipe({'input': {}, 'output': _TANH_RANGE}, _TABLE.compute),
    'hard_sigmoid': Recipe(_GATE_RANGES, _hard_sigmoid),
    # Their smallest values are known, -0.375 and -0.2785; the rounded gate
    # moves them by at most 3/512.
    'hard_swish': Recipe(
        {**_GATE_RANGES, 'output': {'lower': -0.381, **_BESIDE_3}},
        _hard_swish),
    'swish': Recipe(
        {'input': {}, 'gate': _SIGMOID_RANGE, 'output': {'lower': -0.2845}},
        _swish),
}
_SYNONYMS = {'silu': 'swish', 'simple_swish': 'swish'}


def function_name(function: Function | None) -> str:
  """Returns the name of an activation function as YAML files spell it."""
  if function is None:
    return 'linear'
  if isinstance(function, functools.partial):
    function = function.func
  if function is tf_keras.activations.hard_sigmoid:
    return 'keras.hard_sigmoid'  # 0.2 x + 0.5: another function, same name.
  name = getattr(function, '__name__', type(function).__name__)
  return _SYNONYMS.get(name, name)


class _Bound:
  """The quantizers of one activation as functions of a tensor."""

  def __init__(self, by_name, training: bool):
    self.training = training
    for name, quantizer in by_name.items():
      setattr(self, name, functools.partial(quantizer, training=training))


@tf_keras.utils.register_keras_serializable(package=rules.PACKAGE)
class ActivationQuantized(tf_keras.layers.Activation):
  """An activation layer computed step by step on quantized tensors."""

  # Declared on the class so that Keras does not track it: the ranges are
  # weights of this layer, and their checkpoint names shall have no detour.
  _quantizers = None
  # Whether hard-swish is left in one piece, for the converter to fuse.
  fused = False
  path = ''

  def __init__(self, activation, **kwargs):
    super().__init__(activation, **kwargs)
    self._name_of_function = function_name(self.activation)
    self._quantizers = {}

  @property
  def is_hard_swish(self) -> bool:
    """Whether TFLite has one op for the function and slower ones beside it."""
    return self._name_of_function == 'hard_swish'

  def rewire(self, plan: plan_lib.Plan, path: str) -> 'ActivationQuantized':
    """Attaches the quantizers that the plan has for this layer.

    Args:
      plan: Decides about quantizers by path and layer type.
      path: The layer's path in the model.

    Returns:
      The layer itself.

    Raises:
      ValueError: If the function has no integer recipe.
    """
    self.path = path
    name = self._name_of_function
    if name not in RECIPES:
      close = difflib.get_close_matches(name, RECIPES, 1) or ['relu']
      raise ValueError(
          f'{path}: activation {name!r} cannot be quantized; the nearest that '
          f'can is {close[0]!r}, all are: {", ".join(sorted(RECIPES))}')
    for key, known in RECIPES[name].ranges.items():
      quantizer = plan.activation_quantizer(path, 'Activation', **known)
      if quantizer is not None:
        self._quantizers[key] = quantizer
    return self

  def build(self, input_shape):
    super().build(input_shape)
    for key, quantizer in self._quantizers.items():
      quantizer.build(self, key)

  @tf.autograph.experimental.do_not_convert
  def call(self, inputs, training=None, name=None):
    del name  # Of the function, where a functional model calls it directly.
    active = [q for q in self._quantizers.values()
              if q.mode is not quantizers.Mode.PASS_THROUGH]
    if not active:
      return self.activation(inputs)
    bound = _Bound(self._quantizers, leaves.is_training(training))
    recipe = _TABLE if self.fused else RECIPES[self._name_of_function]
    return recipe.compute(inputs, self.activation, bound)


def fuse_hard_swish(model: tf_keras.Model, fused: bool) -> None:
  """Chooses how the hard-swish of a model is computed when it is traced next.

  Args:
    model: A quantized model.
    fused: Whether in one piece, or step by step as it was trained.
  """
  for layer in model._flatten_layers():  # pylint: disable=protected-access
    if isinstance(layer, ActivationQuantized):
      layer.fused = fused and layer.is_hard_swish


def is_activation(layer: tf_keras.layers.Layer) -> bool:
  """Whether a layer computes an activation function (and not the identity).

  A function that a functional model calls directly is a `TFOpLambda` there.
  """
  kind = type(layer).__name__
  if kind == 'TFOpLambda':
    name = function_name(layer.function)
    return name in RECIPES and RECIPES[name] is not _ANY
  if kind == 'Activation':
    return function_name(layer.activation) != 'linear'
  return kind == 'ReLU'


# Functions that hand on what they get. The Model Garden's own relu6 begins with
# the second.
_WITHOUT_ARITHMETIC = ('identity', 'convert_to_tensor_v2_with_dispatch')


class Passing(tf_keras.layers.Layer):
  """Hands on its input, and whatever is known of it."""

  def call(self, inputs, **kwargs):
    del kwargs  # Of the function that it stands for: a name.
    return inputs


def to_passing(layer: tf_keras.layers.Layer, path: str) -> Passing:
  """Returns the twin of a `TFOpLambda` without arithmetic.

  Raises:
    ValueError: If the function computes something.
  """
  name = function_name(layer.function)
  if name not in _WITHOUT_ARITHMETIC:
    raise ValueError(
        f'{path}: function {name!r} of the model cannot be quantized; '
        f'activations that can are: {", ".join(sorted(RECIPES))}')
  return Passing(name=layer.name)


def to_activation(activation) -> ActivationQuantized:
  """Returns the unbuilt twin of an activation layer or function."""
  if type(activation).__name__ == 'TFOpLambda':
    return ActivationQuantized(activation.function, name=activation.name)
  if isinstance(activation, tf_keras.layers.ReLU):
    return ActivationQuantized(_relu_of(activation), name=activation.name)
  if isinstance(activation, tf_keras.layers.Activation):
    return ActivationQuantized(activation.activation, name=activation.name)
  return ActivationQuantized(activation)


def _relu_of(layer: tf_keras.layers.ReLU) -> Function:
  if layer.max_value is None and not layer.negative_slope:
    return tf.nn.relu
  if layer.max_value == 6 and not layer.negative_slope:
    return tf.nn.relu6
  raise ValueError(f'{layer.name}: of the ReLU layers only ReLU() and ReLU(6) '
                   'can be quantized')
