"""Twins of the Model Garden's blocks, see `twin.Twin`."""

from official.modeling import tf_utils
from official.vision.modeling.backbones import mobilenet
from official.vision.modeling.layers import nn_blocks
from official.vision.modeling.layers import nn_layers
import tf_keras

from modelgarden_opt.compression import twin


@twin.register
class Conv2DBNBlockQuantized(twin.Twin, mobilenet.Conv2DBNBlock):
  """Convolution, batch normalization and activation, quantized."""


@twin.register
class InvertedBottleneckBlockQuantized(
    twin.Twin, nn_blocks.InvertedBottleneckBlock):
  """Quantized inverted bottleneck of MobileNetV2, V3 and Multi-HW."""


@twin.register
class BottleneckBlockQuantized(twin.Twin, nn_blocks.BottleneckBlock):
  """Quantized bottleneck of ResNet-50 and deeper."""


@twin.register
class SqueezeExcitationQuantized(twin.Twin, nn_layers.SqueezeExcitation):
  """Quantized squeeze-and-excitation.

  The gate is computed in [0, 1] with the float block's own constant; the
  pooled tensor, the gate and the product each have a range.
  """

  def call(self, inputs, training=None):
    return self._quantize_output(super().call(inputs), training)


@twin.register
class UniversalInvertedBottleneckBlockQuantized(
    twin.Twin, nn_blocks.UniversalInvertedBottleneckBlock):
  """Quantized universal inverted bottleneck of MobileNetV4."""

  @property
  def has_raw_output(self) -> bool:
    return (self._use_residual and self._in_filters == self._out_filters and
            self._strides == 1)

  def call(self, inputs, training=None):
    outputs = super().call(inputs, training=training)
    if self._output_intermediate_endpoints:
      return self._quantize_output(outputs[0], training), outputs[1]
    return self._quantize_output(outputs, training)


@twin.register
class ResidualBlockQuantized(twin.Twin, nn_blocks.ResidualBlock):
  """Quantized residual block of ResNet-18 and -34.

  Its `call` is its own: the float block runs one activation function at two
  places, and each place has a range.
  """

  def _rewire_more(self) -> None:
    # One unit with the activation, for rules as well.
    self._join = self._leaf(
        tf_keras.layers.Add(), self._path_of('_activation2'))
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
    return self._activation2(self._join([x, shortcut]))


@twin.register
class DepthwiseSeparableConvBlockQuantized(
    twin.Twin, nn_blocks.DepthwiseSeparableConvBlock):
  """Quantized depthwise separable convolution of MobileNetV1.

  Its `call` is its own, for the same reason as that of `ResidualBlock`.
  """

  def _rewire_more(self) -> None:
    self._activation1 = self._activation_layer_of(
        tf_utils.get_activation(self._activation), '_activation1')

  def call(self, inputs, training=None):
    x = self._activation_fn(self._norm0(self._dwconv0(inputs)))
    return self._activation1(self._norm1(self._conv1(x)))
