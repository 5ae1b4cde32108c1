"""What all twins share: the mixin, their registry, and the choice of a twin.

A twin is its float block plus `Twin`: constructor, `get_config` and `call` are
inherited. `build` runs the float `build`, which only creates sub-layers, and
then exchanges the sub-layers that `topology.py` names. Hence
`Twin.from_config(float_block.get_config())` holds by construction, and a fix
or a new option in a float block reaches its twin by itself.
"""

from collections.abc import Sequence

import tf_keras

from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import topology
from modelgarden_opt.compression.quantization import activations
from modelgarden_opt.compression.quantization import technique

# Float block class -> its twin; two blocks of the Model Garden share a name.
TWINS: dict[type, type] = {}


def register(twin: type) -> type:
  """Makes a class the twin of the float block that it inherits from."""
  TWINS[rules.float_class(twin)] = twin
  return tf_keras.utils.register_keras_serializable(
      package=rules.PACKAGE)(twin)


class Twin:
  """Mixin: rewires the sub-layers of a block by its topology.

  Without `rewire` a twin quantizes to 8 bits throughout.
  """

  _plan: plan_lib.Plan | None = None
  _path: str = ''
  _quantize_input = False
  output_quantizer = None

  def rewire(
      self, plan: plan_lib.Plan, path: str, *, quantize_input: bool = False
  ) -> 'Twin':
    """Attaches a plan; call it before `build`.

    Args:
      plan: Decides about transforms and quantizers by path and layer type.
      path: The block's path in the model.
      quantize_input: Whether the block reads the model's input.

    Returns:
      The block itself.
    """
    self._plan = plan
    self._path = path
    self._quantize_input = quantize_input
    return self

  def get_config(self):
    return leaves.full_config(self, super().get_config())

  def build(self, input_shape):
    super().build(input_shape)
    if self._plan is None:
      self.rewire(plan_lib.Plan([technique.Quantization()]), self.name)
    block = self._block
    for unit in block.units + block.joins:
      self._rewire_unit(unit)
    self._rewire_more()
    for name in block.nested + block.passive:
      layer = getattr(self, name, None)
      if layer is not None:
        setattr(self, name, to_twin(layer, self._plan, self._path_of(name)))
    if block.raw_output and self._has_raw_output:
      self.output_quantizer = self._plan.activation_quantizer(
          self._path, rules.float_class(type(self)).__name__)
      if self.output_quantizer:
        self.output_quantizer.build(self, 'output')

  @property
  def _block(self) -> topology.Block:
    return topology.BLOCKS[topology.key(rules.float_class(type(self)))]

  def _rewire_unit(self, unit: topology.Unit) -> None:
    """Exchanges the sub-layers of one unit, as far as this block has them."""
    for name in (unit.op, unit.norm):
      layer = getattr(self, name, None) if name else None
      if layer is None or isinstance(layer, leaves.Rewired):
        continue
      first = self._quantize_input and unit is self._first_unit
      setattr(self, name, leaves.to_leaf(layer, self._plan.suffix).rewire(
          self._plan,
          self._path_of(name),
          quantize_input=name == unit.op and (first or unit.raw_input),
          quantize_output=name == unit.last))
    activation = getattr(self, unit.activation or '', None)
    if activation is not None and not isinstance(
        activation, activations.ActivationQuantized):
      setattr(self, unit.activation, self._activation_layer_of(
          activation, unit.activation))

  def _rewire_more(self) -> None:
    """What a twin with a `call` of its own adds to its topology."""

  @property
  def _has_raw_output(self) -> bool:
    """Whether this block's options lead through its raw op."""
    return True

  def _activation_layer_of(self, function, name: str):
    """Returns a layer for a run of an activation function inside `call`."""
    if not self._plan.quantizes:
      return function
    layer = activations.to_activation(function)
    return layer.rewire(self._plan, self._path_of(name))

  def _quantize_output(self, outputs, training):
    """Quantizes the result of the raw op of `call`."""
    if self.output_quantizer is None:
      return outputs
    return self.output_quantizer(outputs, leaves.is_training(training))

  @property
  def _first_unit(self) -> topology.Unit:
    return self._block.units[0]

  def _path_of(self, name: str) -> str:
    return f'{self._path}/{name.lstrip("_")}'


def to_twin(
    layer: tf_keras.layers.Layer,
    plan: plan_lib.Plan,
    path: str,
    *,
    quantize_input: bool = False,
    quantize_output: bool = True,
) -> tf_keras.layers.Layer:
  """Returns the unbuilt counterpart of one layer of a float model.

  Args:
    layer: A layer of a functional model, or a block inside a block.
    plan: Decides about transforms and quantizers by path and layer type.
    path: The layer's path in the model.
    quantize_input: Whether the layer reads the model's input.
    quantize_output: Whether no norm or activation follows that will quantize
      the output.

  Raises:
    ValueError: If the layer has weights or an activation of a type that no
      technique knows.
  """
  # Twins and leaves are taken for the float layers that they stand for.
  float_class = rules.float_class(type(layer))
  if float_class in TWINS:
    twin = TWINS[float_class].from_config(leaves.full_config(layer))
    return twin.rewire(plan, path, quantize_input=quantize_input)
  kind = float_class.__name__
  if activations.is_activation(layer):
    if plan.quantizes:
      return activations.to_activation(layer).rewire(plan, path)
  elif kind in topology.PASSING:
    return leaves.to_leaf(layer, plan.suffix)
  elif kind in topology.KERNELS or kind in topology.LEAVES:
    return leaves.to_leaf(layer, plan.suffix).rewire(
        plan, path, quantize_input=quantize_input,
        quantize_output=quantize_output)
  elif layer.weights and not hasattr(layer, 'get_prunable_weights'):
    known = sorted(
        {t.__name__ for t in TWINS} | {*topology.KERNELS, *topology.LEAVES})
    raise ValueError(
        f'{path}: a layer of type {kind} has weights, and no technique knows '
        f'how to treat it; known are: {", ".join(known)}')
  elif kind == 'TFOpLambda' and plan.quantizes:
    return activations.to_passing(layer, path)
  return type(layer).from_config(layer.get_config())


def to_sequence(
    layers: Sequence[tf_keras.layers.Layer],
    plan: plan_lib.Plan,
    path: str,
    *,
    activated: bool = False,
) -> list[tf_keras.layers.Layer]:
  """Returns the counterparts of layers that run one after the other.

  Args:
    layers: Layers, and `Sequential` models of layers.
    plan: Decides about transforms and quantizers by path and layer type.
    path: Path of the sequence.
    activated: Whether an activation runs behind the last layer.
  """
  paths = rules.layer_paths(layers, f'{path}/')
  result = []
  for layer, reader in zip(layers, [*layers[1:], None]):
    if isinstance(layer, tf_keras.Sequential):
      result.append(tf_keras.Sequential(
          to_sequence(layer.layers, plan, paths[id(layer)]), name=layer.name))
      continue
    followed = activated if reader is None else is_followed_up(layer, reader)
    result.append(to_twin(
        layer, plan, paths[id(layer)], quantize_output=not followed))
    if isinstance(reader, tf_keras.layers.Reshape) and hasattr(
        layer, 'keepdims'):
      # The pooled tensor keeps its axes, and the reshaping, which would need
      # the batch size, has nothing left to do.
      result[-1].keepdims = True
  return result


def is_followed_up(
    layer: tf_keras.layers.Layer, reader: tf_keras.layers.Layer) -> bool:
  """Whether a layer's only reader is its norm or its activation."""
  if type(reader).__name__ in topology.NORMS:
    return type(layer).__name__ in topology.KERNELS
  return activations.is_activation(reader)
