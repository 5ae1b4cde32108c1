"""The topology names every sub-layer of the official blocks."""

import itertools

from official.vision.modeling.backbones import mobilenet
from official.vision.modeling.decoders import aspp
from official.vision.modeling.heads import segmentation_heads
from official.vision.modeling.layers import deeplab
from official.vision.modeling.layers import nn_blocks
from official.vision.modeling.layers import nn_layers
import pytest
import tensorflow as tf

from modelgarden_opt.compression import topology
from modelgarden_opt.compression import twin
from modelgarden_opt.modeling import rewiring  # noqa: F401 (registers twins)


def _options(**choices):
  for values in itertools.product(*choices.values()):
    yield dict(zip(choices, values))


# Constructor, fixed arguments, and the options that add sub-layers.
CASES = {
    'Conv2DBNBlock': (
        mobilenet.Conv2DBNBlock, {'filters': 8},
        _options(use_explicit_padding=[False, True],
                 use_normalization=[False, True], use_bias=[False, True])),
    'InvertedBottleneckBlock': (
        nn_blocks.InvertedBottleneckBlock,
        {'in_filters': 8, 'out_filters': 8, 'strides': 1},
        _options(expand_ratio=[1, 4], se_ratio=[None, 0.25],
                 use_depthwise=[False, True],
                 stochastic_depth_drop_rate=[None, 0.2])),
    'BottleneckBlock': (
        nn_blocks.BottleneckBlock, {'filters': 2, 'strides': 1},
        _options(use_projection=[False, True], resnetd_shortcut=[False, True],
                 se_ratio=[None, 0.25],
                 stochastic_depth_drop_rate=[None, 0.2])),
    'ResidualBlock': (
        nn_blocks.ResidualBlock, {'filters': 8, 'strides': 1},
        _options(use_projection=[False, True], se_ratio=[None, 0.25],
                 use_explicit_padding=[False, True],
                 stochastic_depth_drop_rate=[None, 0.2])),
    'DepthwiseSeparableConvBlock': (
        nn_blocks.DepthwiseSeparableConvBlock, {'filters': 8, 'strides': 1},
        _options(dilation_rate=[1, 2])),
    'UniversalInvertedBottleneckBlock': (
        nn_blocks.UniversalInvertedBottleneckBlock,
        {'in_filters': 8, 'out_filters': 8, 'expand_ratio': 2, 'strides': 1},
        _options(start_dw_kernel_size=[0, 3], middle_dw_kernel_size=[0, 3],
                 end_dw_kernel_size=[0, 3], use_layer_scale=[False, True],
                 stochastic_depth_drop_rate=[None, 0.2])),
    'SqueezeExcitation': (
        nn_layers.SqueezeExcitation,
        {'in_filters': 8, 'out_filters': 8, 'se_ratio': 0.25},
        _options(gating_activation=['sigmoid', 'hard_sigmoid'])),
    'ASPP': (
        aspp.ASPP, {'level': 3, 'dilation_rates': [2], 'num_filters': 4},
        _options(spp_layer_version=['v1', 'v2'])),
    'SpatialPyramidPooling': (
        nn_layers.SpatialPyramidPooling,
        {'output_channels': 4, 'dilation_rates': [2]},
        _options(use_depthwise_convolution=[False, True],
                 pool_kernel_size=[None, [2, 2]])),
    'deeplab.SpatialPyramidPooling': (
        deeplab.SpatialPyramidPooling,
        {'output_channels': 4, 'dilation_rates': [2]},
        _options(use_depthwise_convolution=[False, True],
                 pool_kernel_size=[None, [2, 2]])),
    'SegmentationHead': (
        segmentation_heads.SegmentationHead,
        {'num_classes': 3, 'level': 3, 'num_filters': 4},
        _options(feature_fusion=[None, 'deeplabv3plus'],
                 use_depthwise_convolution=[False, True])),
}


def _holds_layers(value):
  return isinstance(value, list) and bool(value) and isinstance(
      tf.nest.flatten(list(value))[0], tf.Module)


@pytest.mark.parametrize('name', CASES)
def test_every_sublayer_is_named(name):
  make, fixed, options = CASES[name]
  entry = topology.BLOCKS[name]
  seen = set()
  for option in options:
    layer = make(**fixed, **option)
    image = tf.zeros([1, 8, 8, 8])
    layer((image, image) if name == 'SegmentationHead' else image)
    found = {attribute for attribute, value in vars(layer).items()
             if not attribute.startswith('_self_') and
             (isinstance(value, tf.Module) or _holds_layers(value))}
    unnamed = found - entry.sublayers
    assert not unnamed, f'{name} has sub-layers the topology does not name'
    seen |= found
  functions = {a for a in entry.sublayers
               if a.endswith('_fn') or a == '_activation'}
  assert seen | functions == entry.sublayers, 'the topology names what is not'


def test_every_entry_has_a_case_and_a_twin():
  twins = {topology.key(c): t.__name__ for c, t in twin.TWINS.items()}
  assert CASES.keys() == topology.BLOCKS.keys()
  assert twins == {name: e.twin for name, e in topology.BLOCKS.items()}
