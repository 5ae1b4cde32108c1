"""Recipes: how layers of other types are computed on integers.

A recipe is one registered entry. It says which intermediate tensors have a
range and computes the layer step by step on them, so that training rounds
where the file rounds; and which attribute is a kernel, so that every technique
treats it.

    @recipes.register('Scaled', output={})
    def scaled(layer, inputs, q):
      return q.output(inputs * layer.factor)
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt import registry
from modelgarden_opt.compression import grid
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression.quantization import quantizers

# compute(layer, inputs, q) -> outputs.
Compute = Callable[[tf_keras.layers.Layer, Any, Any], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How layers of one type are compressed.

  Attributes:
    compute: `compute(layer, inputs, q)`: the layer, whose kernel attribute is
      the compressed kernel, its inputs on a grid, and the quantizers as
      attributes of `q`. `q.output` makes what it returns.
    ranges: What is known beforehand of each quantized tensor, by name: `{}`,
      `{'lower': 0.0}` or `{'fixed': (low, high)}`.
    kernel: Name of the attribute with the kernel, '' if there is none. Its
      last axis are the output channels.
  """
  compute: Compute
  ranges: Mapping[str, Mapping[str, Any]]
  kernel: str = ''


# Class name of a layer -> its recipe.
RECIPES = registry.Registry('recipe of layer type')


def register(
    layer_type: str, *, kernel: str = '', **ranges: Mapping[str, Any]
) -> Callable[[Compute], Compute]:
  """Returns a decorator that makes a function the recipe of a layer type.

  Args:
    layer_type: Class name of the layer.
    kernel: See `Recipe`.
    **ranges: See `Recipe`; one of them is `output`.

  Raises:
    ValueError: If the type has a recipe, or no range is called `output`.
  """
  if 'output' not in ranges:
    raise ValueError(f'recipe of layer type {layer_type!r}: needs the range '
                     f'`output`, received {", ".join(ranges) or "none"}')

  def add(compute: Compute) -> Compute:
    RECIPES.register(layer_type)(Recipe(compute, ranges, kernel))
    leaves.MIXINS[layer_type] = ByRecipe
    return compute

  return add


def unregister(layer_type: str) -> None:
  """Forgets a recipe, for notebooks that register one again."""
  del RECIPES[layer_type], leaves.MIXINS[layer_type]
  leaves.leaf_class.cache_clear()


class ByRecipe(leaves.Rewired):
  """Mixin: computes a layer as its recipe says."""

  quantizers_by_name: dict[str, quantizers.ActivationQuantizer] = {}

  @property
  def _recipe(self) -> Recipe:
    return RECIPES[self.layer_type]

  @property
  def kernel_attribute(self) -> str:
    return self._recipe.kernel

  def rewire(self, plan, path, *, quantize_output=True):
    del quantize_output  # Whatever follows: the recipe says so.
    return super().rewire(plan, path, quantize_output=False)

  def build(self, input_shape):
    super().build(input_shape)
    found = {}
    for name, known in self._recipe.ranges.items():
      quantizer = self._plan and self._plan.activation_quantizer(
          self.path, self.layer_type, **known)
      if quantizer is not None:
        quantizer.build(self, name)
        found[name] = quantizer
    self.quantizers_by_name = found

  def _call_float(self, inputs, training: bool):
    replaced = {}
    if self.chain:
      replaced[self.kernel_attribute] = self.chain(
          tf.convert_to_tensor(self.kernel_variable), training)
    with internals.replaced(self, **replaced):
      if not self.quantizers_by_name:
        return super(leaves.Rewired, self).call(inputs)
      return self._recipe.compute(
          self, inputs, _Bound(self.quantizers_by_name, training))

  def _made(self, inputs) -> grid.State:
    del inputs
    return grid.State.GRID if self.quantizers_by_name else grid.State.FLOAT


class _Bound:
  """The quantizers of one layer as functions of a tensor."""

  def __init__(self, by_name, training: bool):
    for name, quantizer in by_name.items():
      setattr(self, name, lambda x, q=quantizer: q(x, training))
