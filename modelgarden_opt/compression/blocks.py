"""Twins: the Model Garden's blocks with their leaves rewired.

A twin is its float block plus `Twin`: constructor, `get_config` and `call` are
inherited. `build` runs the float `build`, which only creates sub-layers, and
then exchanges the sub-layers that `topology.py` names. Hence
`Twin.from_config(float_block.get_config())` holds by construction, and a fix
or a new option in a float block reaches its twin by itself.
"""

from official.modeling import tf_utils
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

  def get_config(self):
    return leaves.full_config(self, super().get_config())

  def build(self, input_shape):
    super().build(input_shape)
    if self._plan is None:
      self.rewire(plan_lib.Plan([technique.Quantization()]), self.name)
    block = topology.BLOCKS[leaves.float_class(type(self)).__name__]
    for unit in block.units + block.joins:
      self._rewire_unit(unit)
    self._rewire_more()
    for name in block.nested + block.passive:
      layer = getattr(self, name, None)
      if layer is not None:
        setattr(self, name, to_twin(layer, self._plan, self._path_of(name)))
    if block.raw_output and self._ends_in_raw_output:
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
    if activation is not None and not isinstance(
        activation, activations.ActivationQuantized):
      setattr(self, unit.activation, self._activation_layer_of(
          activation, unit.activation))

  def _rewire_more(self) -> None:
    """What a twin with a `call` of its own adds to its topology."""

  @property
  def _ends_in_raw_output(self) -> bool:
    """Whether this block's options lead through its last raw op."""
    return True

  def _activation_layer_of(self, function, name: str):
    """Returns a layer for a run of an activation function inside `call`."""
    if not self._plan.quantizes:
      return function
    layer = activations.to_activation(function)
    return layer.rewire(self._plan, self._path_of(name))

  def _quantize_output(self, outputs, training):
    """Quantizes the result of the raw op that `call` ends in."""
    if self.output_quantizer is None:
      return outputs
    return self.output_quantizer(outputs, leaves.is_training(training))

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
    return self._quantize_output(super().call(inputs), training)


@_register
class UniversalInvertedBottleneckBlockQuantized(
    Twin, nn_blocks.UniversalInvertedBottleneckBlock):
  """Quantized universal inverted bottleneck of MobileNetV4."""

  @property
  def _ends_in_raw_output(self) -> bool:
    return (self._use_residual and self._in_filters == self._out_filters and
            self._strides == 1)

  def call(self, inputs, training=None):
    outputs = super().call(inputs, training=training)
    if self._output_intermediate_endpoints:
      return self._quantize_output(outputs[0], training), outputs[1]
    return self._quantize_output(outputs, training)


@_register
class ResidualBlockQuantized(Twin, nn_blocks.ResidualBlock):
  """Quantized residual block of ResNet-18 and -34.

  Its `call` is its own: the float block runs one activation function at two
  places, and each place has a range.
  """

  def _rewire_more(self) -> None:
    self._activation2 = self._activation_layer_of(
        tf_utils.get_activation(self._activation), '_activation2')

  def call(self, inputs, training=None):
    shortcut = inputs
    if self._use_projection:
      shortcut = self._norm0(self._shortcut(inputs))
    x = self._pad(inputs) if self._use_explicit_padding else inputs
    x = self._activation_fn(self._norm1(self._conv1(x)))
    x = self._norm2(self._conv2(x))
    if self._squeeze_excitation:
      x = self._squeeze_excitation(x)
    if self._stochastic_depth:
      x = self._stochastic_depth(x, training=training)
    return self._activation2(x + shortcut)


@_register
class DepthwiseSeparableConvBlockQuantized(
    Twin, nn_blocks.DepthwiseSeparableConvBlock):
  """Quantized depthwise separable convolution of MobileNetV1.

  Its `call` is its own, for the same reason as that of `ResidualBlock`.
  """

  def _rewire_more(self) -> None:
    self._activation1 = self._activation_layer_of(
        tf_utils.get_activation(self._activation), '_activation1')

  def call(self, inputs, training=None):
    x = self._activation_fn(self._norm0(self._dwconv0(inputs)))
    return self._activation1(self._norm1(self._conv1(x)))


TWINS = {
    leaves.float_class(twin).__name__: twin
    for twin in (
        Conv2DBNBlockQuantized,
        InvertedBottleneckBlockQuantized,
        BottleneckBlockQuantized,
        ResidualBlockQuantized,
        DepthwiseSeparableConvBlockQuantized,
        UniversalInvertedBottleneckBlockQuantized,
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
    twin = TWINS[kind].from_config(leaves.full_config(layer))
    return twin.rewire(plan, path, quantize_input=quantize_input)
  if kind in ('Activation', 'ReLU'):
    function = activations.function_name(getattr(layer, 'activation', None))
    if plan.quantizes and (kind == 'ReLU' or function != 'linear'):
      return activations.to_activation(layer).rewire(plan, path)
  elif kind in topology.PASSING:
    return leaves.to_leaf(layer, plan.suffix)
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
