"""Which kernels make channels that one other kernel alone reads."""

import pytest
import tf_keras

from modelgarden_opt.modeling.equalization import units
from tests.modeling.equalization import models

layers = tf_keras.layers


def _pairs(model):
  return {unit.op.path: unit.consumer and unit.consumer.path
          for unit in units.find(model)}


def test_chains_lead_through_depthwise_kernels_and_end_at_additions(
    tiny_params):
  block = 'backbone/inverted_bottleneck_block_'
  found = _pairs(models.quantized(models.family(tiny_params, 'mobilenet_v2')))
  assert found == {
      'backbone/conv2dbn_block_0/conv0': None,  # Its reader adds it again.
      f'{block}0/conv1': f'{block}0/conv2', f'{block}0/conv2': None,
      f'{block}1/conv0': f'{block}1/conv1',
      f'{block}1/conv1': f'{block}1/conv2', f'{block}1/conv2': None,
      f'{block}2/conv0': f'{block}2/conv1',
      f'{block}2/conv1': f'{block}2/conv2', f'{block}2/conv2': None,
      'backbone/conv2dbn_block_1/conv0': 'dense_0', 'dense_0': None}


def test_chains_lead_from_block_to_block(tiny_params):
  model = models.quantized(models.family(tiny_params, 'mobilenet_v1'))
  paths = [unit.op.path for unit in units.find(model)]
  assert list(_pairs(model).values()) == [*paths[1:], None]
  assert len(paths) == 28


def test_a_squeeze_excitation_reads_what_the_projection_reads(tiny_params):
  found = _pairs(models.quantized(models.family(tiny_params, 'mobilenet_v3')))
  block = 'backbone/inverted_bottleneck_block_0/'
  assert found[f'{block}conv1'] is None
  assert found[f'{block}squeeze_excitation/se_reduce'] == (
      f'{block}squeeze_excitation/se_expand')


_FIRST = {'filters': 4, 'kernel_size': 3}
_CONSUMED = {
    'flattened': lambda x: layers.Dense(2)(layers.Flatten()(x)),
    'pooled': lambda x: layers.Dense(2)(layers.GlobalAveragePooling2D()(
        layers.MaxPool2D()(x))),
    'depthwise': layers.DepthwiseConv2D(3, depth_multiplier=2),
    'leaky': lambda x: layers.Conv2D(2, 1)(layers.LeakyReLU(0.1)(x)),
    'normalized': lambda x: layers.Conv2D(2, 1)(
        layers.ReLU()(layers.BatchNormalization()(x))),
}
_SHARED = {
    'two readers': lambda x: layers.Add()(
        [layers.Conv2D(2, 1)(x), layers.Conv2D(2, 1)(x)]),
    'an addition': lambda x: layers.Conv2D(2, 1)(layers.Add()([x, x])),
    'a concatenation': lambda x: layers.Conv2D(2, 1)(
        layers.Concatenate()([x, x])),
    'an output': lambda x: [x, layers.Conv2D(2, 1)(x)],
    'relu6': lambda x: layers.Conv2D(2, 1)(layers.ReLU(6.0)(x)),
    'a norm after relu': lambda x: layers.Conv2D(2, 1)(
        layers.BatchNormalization()(layers.ReLU()(x))),
    'permuted': lambda x: layers.Dense(2)(layers.Flatten()(
        layers.Permute([3, 1, 2])(x))),
    'a head': lambda x: x,
}


@pytest.mark.parametrize('name', _CONSUMED)
def test_layers_that_scale_with_their_input_are_between(name):
  model = models.functional(
      lambda x: _CONSUMED[name](layers.Conv2D(**_FIRST)(x)))
  first = units.find(model)[0]
  assert first.consumer is not None
  assert (first.norm is not None) == (name == 'normalized')


@pytest.mark.parametrize('name', _SHARED)
def test_channels_that_something_else_reads_are_left(name):
  model = models.functional(
      lambda x: _SHARED[name](layers.Conv2D(**_FIRST)(x)))
  first = units.find(model)[0]
  assert first.consumer is None
  assert first.blocked_by == ('relu6' if name == 'relu6' else '')


def test_a_layer_that_runs_twice_is_in_no_unit():
  shared = layers.Conv2D(3, 1)
  model = models.functional(
      lambda x: layers.Conv2D(2, 1)(shared(layers.ReLU()(shared(x)))))
  assert _pairs(model) == {'conv2d_1': None}


def test_an_activation_inside_of_a_layer_counts():
  model = models.functional(lambda x: layers.Conv2D(2, 1)(
      layers.Conv2D(4, 1, activation='relu6')(
          layers.Conv2D(4, 1, activation='relu')(x))))
  first, second, _ = units.find(model)
  assert first.consumer is second.op
  assert second.consumer is None and second.blocked_by == 'relu6'
