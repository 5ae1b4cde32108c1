"""Twins: the Model Garden's blocks with their leaves rewired.

A twin is its float block plus `Twin`: constructor, `get_config` and `call` are
inherited. `build` runs the float `build`, which only creates sub-layers, and
then exchanges the sub-layers that `topology.py` names. Hence
`Twin.from_config(float_block.get_config())` holds by construction, and a fix
or a new option in a float block reaches its twin by itself.
"""

from official.vision.modeling.backbones import mobilenet
from official.vision.modeling.layers import nn_blocks
from official.vision.modeling.layers import nn_layers
import tf_keras

from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import topology
from modelgarden_opt.compression.quantization import activations
from modelgarden_opt.compression.quantization import technique

_register = tf_keras.utils.register_keras_serializable(package=leaves.PACKAGE)


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

  def build(self, input_shape):
    super().build(input_shape)
    if self._plan is None:
      self.rewire(plan_lib.Plan([technique.Quantization()]), self.name)
    block = topology.BLOCKS[leaves.float_class(type(self)).__name__]
    for unit in block.units + block.joins:
      self._rewire_unit(unit)
    for name in block.nested:
      layer = getattr(self, name, None)
      if layer is not None:
        setattr(self, name, to_twin(layer, self._plan, self._path_of(name)))
    if block.raw_output:
      self.output_quantizer = self._plan.activation_quantizer(
          self._path, leaves.float_class(type(self)).__name__)
      if self.output_quantizer:
        self.output_quantizer.build(self, 'output')

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
    if activation is not None and self._plan.quantizes:
      setattr(self, unit.activation, activations.to_activation(
          activation).rewire(self._plan, self._path_of(unit.activation)))

  @property
  def _first_unit(self) -> topology.Unit:
    return topology.BLOCKS[leaves.float_class(type(self)).__name__].units[0]

  def _path_of(self, name: str) -> str:
    return f'{self._path}/{name.lstrip("_")}'


@_register
class Conv2DBNBlockQuantized(Twin, mobilenet.Conv2DBNBlock):
  """Convolution, batch normalization and activation, quantized."""


@_register
class InvertedBottleneckBlockQuantized(Twin, nn_blocks.InvertedBottleneckBlock):
  """Quantized inverted bottleneck of MobileNetV2, V3 and Multi-HW."""


@_register
class BottleneckBlockQuantized(Twin, nn_blocks.BottleneckBlock):
  """Quantized bottleneck of ResNet-50 and deeper."""


@_register
class SqueezeExcitationQuantized(Twin, nn_layers.SqueezeExcitation):
  """Quantized squeeze-and-excitation.

  The gate is computed in [0, 1] with the float block's own constant; the
  pooled tensor, the gate and the product each have a range.
  """

  def call(self, inputs, training=None):
    outputs = super().call(inputs)
    if self.output_quantizer:
      training = leaves.is_training(training)
      outputs = self.output_quantizer(outputs, training)
    return outputs


TWINS = {
    leaves.float_class(twin).__name__: twin
    for twin in (
        Conv2DBNBlockQuantized,
        InvertedBottleneckBlockQuantized,
        BottleneckBlockQuantized,
        SqueezeExcitationQuantized,
    )
}


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
  kind = type(layer).__name__
  if kind in TWINS:
    twin = TWINS[kind].from_config(layer.get_config())
    return twin.rewire(plan, path, quantize_input=quantize_input)
  if kind in ('Activation', 'ReLU'):
    function = activations.function_name(getattr(layer, 'activation', None))
    if plan.quantizes and (kind == 'ReLU' or function != 'linear'):
      return activations.to_activation(layer).rewire(plan, path)
  elif kind in topology.KERNELS or kind in topology.LEAVES:
    return leaves.to_leaf(layer, plan.suffix).rewire(
        plan, path, quantize_input=quantize_input,
        quantize_output=quantize_output)
  elif layer.weights:
    known = sorted({*TWINS, *topology.KERNELS, *topology.LEAVES})
    raise ValueError(
        f'{path}: a layer of type {kind} has weights, and no technique knows '
        f'how to treat it; known are: {", ".join(known)}')
  return type(layer).from_config(layer.get_config())
