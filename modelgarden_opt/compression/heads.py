"""Twins of decoders and heads of semantic segmentation, see `twin.Twin`.

Their float blocks keep layers in lists and join branches by raw ops, so `call`
is written here, composed of the same quantized leaves.
"""

from collections.abc import Mapping

from official.modeling import tf_utils
from official.vision.modeling.decoders import aspp
from official.vision.modeling.heads import segmentation_heads
from official.vision.modeling.layers import deeplab
from official.vision.modeling.layers import nn_layers
from official.vision.ops import spatial_transform_ops
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import sequences
from modelgarden_opt.compression import twin
from modelgarden_opt.compression.quantization import bias

# Ways to join features that a quantized head has.
_FUSIONS = ('deeplabv3plus', 'deeplabv3plus_sum_to_merge', 'pyramid_fusion')


@twin.register
class ASPPQuantized(twin.Twin, aspp.ASPP):
  """Quantized atrous spatial pyramid pooling."""


@twin.register
class DeeplabSpatialPyramidPoolingQuantized(
    twin.Twin, deeplab.SpatialPyramidPooling):
  """Quantized pyramid of ASPP version 1, whose branches are `Sequential`s."""

  def _rewire_more(self) -> None:
    self.aspp_layers = [
        self._to_sequential(branch, f'branch_{i}')
        for i, branch in enumerate(self.aspp_layers)]
    self.projection = self._to_sequential(self.projection, 'projection')
    self._pooled = self._leaf(tf_keras.layers.Identity())
    self._join = self._leaf(tf_keras.layers.Concatenate())

  def _to_sequential(self, sequential, name: str) -> tf_keras.Sequential:
    return sequences.Branch(
        sequences.to_sequence(
            sequential.layers, self._plan, self._path_of(name)),
        name=sequential.name)

  def call(self, inputs, training=None):
    branches = [
        branch(inputs, training=training) for branch in self.aspp_layers]
    branches[-1] = _resize(
        self._pooled(branches[-1]), tf.shape(inputs)[1:3])
    x = self._quantize_output(self._join(branches), training)
    return self.projection(x, training=training)


@twin.register
class SpatialPyramidPoolingQuantized(
    twin.Twin, nn_layers.SpatialPyramidPooling):
  """Quantized pyramid of ASPP version 2, whose branches are lists."""

  _of_call = ('_resizing_layer',)

  def _rewire_more(self) -> None:
    count = len(self.aspp_layers)
    self.aspp_layers = [
        self._to_list(branch, f'branch_{i}', i)
        for i, branch in enumerate(self.aspp_layers)]
    self._projection = self._to_list(self._projection, 'projection', count)
    self._activations = [
        self._activation_layer_of(self._activation_fn, f'activation_{i}')
        for i in range(count + 1)]
    self._pooled = self._leaf(tf_keras.layers.Identity())
    self._concat_layer = self._leaf(self._concat_layer)

  def _to_list(
      self, layers, name: str, index: int) -> list[tf_keras.layers.Layer]:
    return sequences.to_sequence(
        layers, self._plan, self._path_of(name),
        activation_path=self._path_of(f'activation_{index}'))

  def call(self, inputs, training=None):
    *branch_activations, last_activation = self._activations
    branches = [
        activation(_run(layers, inputs, training))
        for layers, activation in zip(self.aspp_layers, branch_activations)]
    pooled = self._pooled(branches[-1])
    branches[-1] = bias.hand_on(pooled, self._resizing_layer(pooled))
    x = self._quantize_output(self._concat_layer(branches), training)
    x = last_activation(_run(self._projection, x, training))
    return self._dropout_layer(x, training=training)


@twin.register
class SegmentationHeadQuantized(
    twin.Twin, segmentation_heads.SegmentationHead):
  """Quantized segmentation head of DeepLabV3 and V3+.

  Every option but `feature_fusion: panoptic_fpn_fusion`, whose group
  normalization has no integer counterpart in TFLite.
  """

  def build(self, input_shape):
    decoder = input_shape[1]
    self._levels = list(decoder) if isinstance(decoder, Mapping) else []
    super().build(input_shape)

  def _rewire_more(self) -> None:
    if self._config_dict['feature_fusion'] == 'panoptic_fpn_fusion':
      raise ValueError(
          f'{self._path}: feature_fusion panoptic_fpn_fusion cannot be '
          'rewired; deeplabv3plus, deeplabv3plus_sum_to_merge, pyramid_fusion '
          'and null can')
    function = tf_utils.get_activation(self._config_dict['activation'])
    self._activations = [
        self._activation_layer_of(function, f'activation_{i}')
        for i in range(len(self._norms))]
    pairs = [
        sequences.to_sequence(
            pair, self._plan, self._path_of(f'conv_{i}'),
            activation_path=self._path_of(f'activation_{i}'))
        for i, pair in enumerate(zip(self._convs, self._norms))]
    self._convs = [conv for conv, _ in pairs]
    self._norms = [norm for _, norm in pairs]
    self._logit_activation = self._activation_of_logits()
    self._before_upsampling = self._leaf(tf_keras.layers.Identity())
    self._before_resize = self._leaf(tf_keras.layers.Identity())
    self._boundaries = {
        level: self._leaf(tf_keras.layers.Identity())
        for level in self._levels}
    self._join = self._leaf(
        tf_keras.layers.Concatenate(self._bn_axis)
        if self._fusion == 'deeplabv3plus' else tf_keras.layers.Add())

  def _activation_of_logits(self):
    """Takes the activation out of the classifier: it has its own range."""
    function, self._classifier.activation = (
        self._classifier.activation, tf_keras.activations.linear)
    if self._config_dict['logit_activation'] is None:
      return tf.identity
    return self._activation_layer_of(function, 'logit_activation')

  @property
  def _fusion(self) -> str | None:
    """How features are joined; the float head takes unknown names as none."""
    fusion = self._config_dict['feature_fusion']
    return fusion if fusion in _FUSIONS else None

  @property
  def has_raw_output(self) -> bool:
    return self._fusion is not None

  def call(self, inputs, training=None):
    x = self._fuse(*inputs, training)
    for conv, norm, activation in zip(
        self._convs, self._norms, self._activations):
      x = activation(norm(conv(x)))
    scale = self._config_dict['upsample_factor']
    if scale > 1:
      x = self._before_upsampling(x)
      x = bias.hand_on(
          x, spatial_transform_ops.nearest_upsampling(x, scale=scale))
    return self._logit_activation(self._classifier(x))

  def _fuse(self, backbone, decoder, training):
    """Joins the decoder's features with finer ones, as far as configured."""
    fusion = self._fusion
    level = self._config_dict['level']
    if fusion == 'pyramid_fusion':
      return self._quantize_output(
          self._join(self._resampled(decoder, level)), training)
    x = _at(decoder, level)
    if fusion is None:
      return x
    low = _at(backbone, self._config_dict['low_level'])
    low = self._activation(self._dlv3p_norm(self._dlv3p_conv(low)))
    x = _resize(self._before_resize(x), tf.shape(low)[1:3])
    return self._quantize_output(self._join([x, low]), training)

  def _resampled(self, features, target: int) -> list[tf.Tensor]:
    """Returns all levels of a pyramid in the size of one of them."""
    size = features[str(target)].shape[1:3]
    return [features[level] if int(level) == target else
            _resize(self._boundaries[level](features[level]), size)
            for level in sorted(features, key=int)]


def _at(features, level):
  """Returns the features of a level, or the only features there are."""
  return features[str(level)] if isinstance(features, dict) else features


def _run(layers, x, training):
  for layer in layers:
    x = layer(x, training=training)
  return x


def _resize(x: tf.Tensor, size) -> tf.Tensor:
  """Returns `x` resized, which an integer file does on the grid of `x`."""
  return bias.hand_on(x, tf.image.resize(
      x, size, method=tf.image.ResizeMethod.BILINEAR))
