"""What all twins share: the mixin, their registry, and the choice of a twin.

A twin is its float block plus `Twin`: constructor, `get_config` and `call` are
inherited. `build` runs the float `build`, which only creates sub-layers, and
then exchanges the sub-layers that `topology.py` names. Hence
`Twin.from_config(float_block.get_config())` holds by construction, and a fix
or a new option in a float block reaches its twin by itself.
"""

from collections.abc import Sequence

import tf_keras

from modelgarden_opt.compression import grid
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import mixins  # noqa: F401 (of leaves)
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import recipes
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import topology
from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.quantization import activations
from modelgarden_opt.compression.quantization import functions
from modelgarden_opt.compression.quantization import quantization_technique

# Float block class -> its twin; two blocks of the Model Garden share a name.
TWINS: dict[type, type] = {}


def register(twin: type) -> type:
  """Makes a class the twin of the float block that it inherits from."""
  TWINS[rules.float_class(twin)] = twin
  twin.call = grid.noting(twin.call)
  return tf_keras.utils.register_keras_serializable(
      package=rules.PACKAGE)(twin)


class Twin(grid.Noting):
  """Mixin: rewires the sub-layers of a block by its topology.

  Without `rewire` a twin quantizes to 8 bits throughout.
  """

  _plan: plan_lib.Plan | None = None
  _path: str = ''
  input_quantizers: dict = {}
  output_quantizer = None
  # Sub-layers that the `call` of the twin uses.
  _of_call: tuple[str, ...] = ()

  def rewire(self, plan: plan_lib.Plan, path: str) -> 'Twin':
    """Attaches a plan; call it before `build`.

    Args:
      plan: Decides about transforms and quantizers by path and layer type.
      path: The block's path in the model.

    Returns:
      The block itself.
    """
    self._plan = plan
    self._path = path
    return self

  def get_config(self):
    return leaves.full_config(self, super().get_config())

  def build(self, input_shape):
    super().build(input_shape)
    if self._plan is None:
      self.rewire(
          plan_lib.Plan([quantization_technique.Quantization()]), self.name)
    block = self._block
    for unit in block.units + block.joins:
      self._rewire_unit(unit)
    self._rewire_more()
    for name in block.nested + block.passive:
      layer = getattr(self, name, None)
      if layer is not None and name not in self._of_call and not isinstance(
          layer, leaves.Rewired):
        setattr(self, name, to_twin(layer, self._plan, self._path_of(name)))
    if block.raw_output and self.has_raw_output:
      self.output_quantizer = self._quantizer_of_block()
      if self.output_quantizer:
        self.output_quantizer.build(self, 'output')
        if block.raw_input:
          self._quantize_what_is_joined()

  def _quantizer_of_block(self):
    return self._plan.activation_quantizer(
        self._path, rules.float_type(self))

  def _quantize_what_is_joined(self) -> None:
    """Puts both operands of the block's own op on a grid."""
    self.input_quantizers = {}
    if grid.State.GRID not in self.incoming:
      self.input_quantizers[0] = self._quantizer_of_block()
      self.input_quantizers[0].build(self, 'input')
    last = [unit for unit in self._block.units
            if getattr(self, unit.op, None) is not None][-1]
    if last.names[-1] not in self._quantizing_names(last):
      getattr(self, last.names[-1]).output_quantizer = (
          self._quantizer_of_block())

  def quantize_inputs(self, inputs, training):
    """Returns what the block computes with."""
    return leaves.quantized_inputs(
        self.input_quantizers, inputs, transforms.is_training(training))

  @property
  def _block(self) -> topology.Block:
    return topology.BLOCKS[topology.key(rules.float_class(type(self)))]

  def _rewire_unit(self, unit: topology.Unit) -> None:
    """Exchanges the sub-layers of one unit, as far as this block has them."""
    quantizing = self._quantizing_names(unit)[-1:]
    for name in filter(None, (unit.op, unit.norm)):
      layer = getattr(self, name, None)
      if layer is None or isinstance(layer, leaves.Rewired):
        continue
      setattr(self, name, leaves.to_leaf(layer, self._plan.suffix).rewire(
          self._plan, self._path_of(name), quantize_output=[name] == quantizing
      ))
    activation = getattr(self, unit.activation or '', None)
    if activation is not None and not isinstance(
        activation, activations.ActivationQuantized):
      setattr(self, unit.activation, self._activation_layer_of(
          activation, unit.activation))

  def _quantizing_names(self, unit: topology.Unit) -> list[str]:
    """Returns the sub-layers of a unit that no rule leaves in float.

    The last of them quantizes what leaves the unit: the op is one on integers
    then, whatever follows.
    """
    return [
        name for name in unit.names
        if (name == unit.activation or getattr(self, name, None) is not None)
        and self._plan.enabled(
            'quantization', self._path_of(name), self._type_of(unit, name))]

  def _type_of(self, unit: topology.Unit, name: str) -> str:
    if name == unit.activation:
      return 'Activation'
    return rules.float_type(getattr(self, name))

  def _rewire_more(self) -> None:
    """What a twin that overrides `call` adds to its topology."""

  @property
  def has_raw_output(self) -> bool:
    """Whether this block's options lead through its raw op."""
    return True

  def _activation_layer_of(self, function, name: str):
    """Returns a layer for a run of an activation function inside `call`."""
    if not self._plan.quantizes:
      return function
    layer = activations.to_activation(function)
    return layer.rewire(self._plan, self._path_of(name))

  def _leaf(self, layer: tf_keras.layers.Layer, path: str | None = None):
    """Returns a leaf in place of a raw op of `call`, without an output range.

    Args:
      layer: A layer without weights that computes what the op does.
      path: Path for rules, None for that of the block.
    """
    return leaves.to_leaf(layer, self._plan.suffix).rewire(
        self._plan, path or self._path, quantize_output=False)

  def _quantize_output(self, outputs, training):
    """Quantizes the result of the raw op of `call`."""
    if self.output_quantizer is None:
      return outputs
    return grid.mark(self.output_quantizer(
        outputs, transforms.is_training(training)), grid.State.GRID)

  def _path_of(self, name: str) -> str:
    return f'{self._path}/{name.lstrip("_")}'


def problem(
    layer: tf_keras.layers.Layer, plan: plan_lib.Plan, path: str) -> str:
  """Returns why a plan cannot treat a layer, '' if it can.

  Args:
    layer: A layer of a functional model, or a block inside a block.
    plan: Decides about transforms and quantizers by path and layer type.
    path: The layer's path in the model.
  """
  float_class = rules.float_class(type(layer))
  kind = float_class.__name__
  if (float_class in TWINS or kind in ('InputLayer', *recipes.RECIPES) or
      activations.is_passing(layer) or plan.leaves_alone(path, kind)):
    return ''
  if activations.is_activation(layer):
    enabled = plan.enabled('quantization', path, 'Activation')
    return activations.problem_of_layer(layer) if enabled else ''
  if kind in (*topology.KERNELS, *topology.LEAVES, *topology.PASSING):
    enabled = plan.enabled('quantization', path, kind)
    return _problem_of_leaf(layer, kind) if enabled else ''
  if plan.quantizes and not plan.enabled('quantization', path, kind):
    return ''
  if kind == 'TFOpLambda' and plan.quantizes:
    name = functions.function_name(layer.function)
    return f'function {name!r} of the model cannot be quantized; call a layer'
  if plan.quantizes:
    return _HINTS.get(kind, 'layers of this type cannot be quantized')
  if layer.weights and not hasattr(layer, 'get_prunable_weights'):
    return 'has weights, and no technique knows how to treat it'
  return ''


# What to do in place of some common layers.
_HINTS = {
    'SeparableConv2D': 'cannot be quantized; a DepthwiseConv2D and a Conv2D of '
                       '1x1 can',
    'Conv2DTranspose': 'cannot be quantized; an UpSampling2D and a Conv2D can',
    'ELU': 'cannot be quantized; ReLU and LeakyReLU can',
    'PReLU': 'cannot be quantized; ReLU and LeakyReLU can',
    'Lambda': 'cannot be quantized; layers can',
    'Rescaling': 'cannot be quantized; scale images in front of the model',
    'Normalization': 'cannot be quantized; normalize images in front of the '
                     'model',
}


_INTERPOLATIONS = ('nearest', 'bilinear')


def _problem_of_leaf(layer: tf_keras.layers.Layer, kind: str) -> str:
  if getattr(layer, 'data_format', None) == 'channels_first':
    return 'channels_first cannot be quantized; channels_last can'
  if getattr(layer, 'interpolation', 'nearest') not in _INTERPOLATIONS:
    return (f'interpolation {layer.interpolation!r} cannot be quantized; '
            f'{" and ".join(_INTERPOLATIONS)} can')
  if kind in topology.KERNELS:
    return functions.problem(layer.activation)
  if kind in topology.NORMS and not _over_last_axis(layer):
    return (f'axis {_axes(layer)} cannot be quantized; the last one, that of '
            'the channels, can')
  return ''


def _axes(norm: tf_keras.layers.BatchNormalization) -> list[int]:
  """Returns the axes of a normalization, also before it is built."""
  return list(norm.axis) if isinstance(norm.axis, Sequence) else [norm.axis]


def _over_last_axis(norm: tf_keras.layers.BatchNormalization) -> bool:
  last = (-1, norm.input_spec.ndim - 1) if norm.built else (-1, 3)
  return len(_axes(norm)) == 1 and _axes(norm)[0] in last


def to_twin(
    layer: tf_keras.layers.Layer,
    plan: plan_lib.Plan,
    path: str,
    *,
    quantize_output: bool = True,
) -> tf_keras.layers.Layer:
  """Returns the unbuilt counterpart of one layer of a float model.

  Args:
    layer: A layer of a functional model, or a block inside a block.
    plan: Decides about transforms and quantizers by path and layer type.
    path: The layer's path in the model.
    quantize_output: Whether no norm or activation follows that will quantize
      the output.

  Raises:
    ValueError: If the layer has weights or an activation of a type that no
      technique knows.
  """
  reason = problem(layer, plan, path)
  if reason:
    raise ValueError(f'{path} ({type(layer).__name__}): {reason}')
  # Twins and leaves are treated like their float counterparts.
  float_class = rules.float_class(type(layer))
  if float_class in TWINS:
    twin = TWINS[float_class].from_config(leaves.full_config(layer))
    return twin.rewire(plan, path)
  kind = float_class.__name__
  if plan.quantizes and activations.is_passing(layer):
    return activations.Passing(name=layer.name)
  if activations.is_activation(layer):
    if plan.quantizes:
      return activations.to_activation(layer).rewire(
          plan, path, quantize_output=quantize_output)
  elif kind in topology.PASSING:
    return leaves.to_leaf(layer, plan.suffix).rewire(
        plan, path, quantize_output=False)
  elif kind in (*topology.KERNELS, *topology.LEAVES, *recipes.RECIPES):
    return leaves.to_leaf(layer, plan.suffix).rewire(
        plan, path, quantize_output=quantize_output)
  return type(layer).from_config(layer.get_config())
