"""Activation functions on integers: which tensors get which range.

An integer runtime executes hard-swish and its relatives as several ops, each
of which rounds. Training has to see the same rounding, so every intermediate
tensor has its own quantizer. hard-swish is written as relu6(x + 3), times
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

from modelgarden_opt.compression import rules
from modelgarden_opt.compression.quantization import fake_quant

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
# The input of a look-up-table op is a separate tensor.
TABLE = Recipe({'input': {}, 'output': {}},
                lambda x, f, q: q.output(f(q.input(x))))
# Ranges that TFLite prescribes for the outputs of LOGISTIC (and SOFTMAX), TANH.
_SIGMOID_RANGE = {'fixed': (0.0, 255.0 / 256.0)}
_TANH_RANGE = {'fixed': (-1.0, 127.0 / 128.0)}
# XNNPACK adds tensors whose steps differ by less than 2^10: an input that
# hardly differs from 0 would leave `x + 3` to the reference op. And it refuses
# a product whose step is smaller than 2^-16 of that of its result.
_BESIDE_3 = {'at_least': 0.05}
_GATE_RANGES = {'input': _BESIDE_3, 'shifted': {'fixed': (0.0, 6.0)},
                'gate': {'fixed': (0.0, 1.0)}}

RECIPES = {
    'relu': _relu('relu'),
    'relu6': _relu('relu6'),
    'linear': _ANY,
    'identity': _ANY,
    'leaky_relu': TABLE,
    'gelu': TABLE,
    'sigmoid': Recipe({'input': {}, 'output': _SIGMOID_RANGE}, TABLE.compute),
    'softmax': Recipe({'input': {}, 'output': _SIGMOID_RANGE}, TABLE.compute),
    'tanh': Recipe({'input': {}, 'output': _TANH_RANGE}, TABLE.compute),
    'hard_sigmoid': Recipe(_GATE_RANGES, _hard_sigmoid),
    # Their smallest values are known, -0.375 and -0.2785; the rounded gate
    # moves them by at most 3/512.
    'hard_swish': Recipe(
        {**_GATE_RANGES, 'output': {'lower': -0.381, **_BESIDE_3}},
        _hard_swish),
    'swish': Recipe(
        {'input': _BESIDE_3, 'gate': _SIGMOID_RANGE,
         'output': {'lower': -0.2845, **_BESIDE_3}},
        _swish),
}
# Functions that runtimes fuse into the op that they follow.
RELUS = ('relu', 'relu6')
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


def is_linear(function: Function | None) -> bool:
  """Whether an activation function is the identity."""
  return function_name(function) in ('linear', 'identity')


# Functions with f(k x) = k f(x) for every k > 0.
_HOMOGENEOUS = ('linear', 'identity', 'relu', 'leaky_relu')


def is_homogeneous(name: str) -> bool:
  """Whether the function of this name scales with its input."""
  return name in _HOMOGENEOUS


def problem(function: Function) -> str:
  """Returns why an activation function has no integer recipe, '' if it has."""
  name = function_name(function)
  if name in RECIPES:
    return ''
  close = difflib.get_close_matches(name, RECIPES, 1) or ['relu']
  return (f'activation {name!r} cannot be quantized; the nearest that can is '
          f'{close[0]!r}, all are: {", ".join(sorted(RECIPES))}')


@tf_keras.utils.register_keras_serializable(package=rules.PACKAGE)
class LeakyRelu:
  """The function of a `LeakyReLU` layer."""

  __name__ = 'leaky_relu'

  def __init__(self, alpha: float):
    """Initializes the function.

    Args:
      alpha: Slope below zero.
    """
    self._alpha = float(alpha)

  def __call__(self, x: tf.Tensor) -> tf.Tensor:
    return tf.nn.leaky_relu(x, self._alpha)

  def get_config(self):
    return {'alpha': self._alpha}

  @classmethod
  def from_config(cls, config):
    return cls(**config)
