"""Twins compute what their float blocks compute, but for quantization."""

import itertools

import numpy as np
from official.vision.modeling.backbones import mobilenet
from official.vision.modeling.layers import nn_blocks
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import blocks
from modelgarden_opt.compression import grid
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import topology
from modelgarden_opt.compression import twin as twin_lib
from modelgarden_opt.compression.quantization import quantization_technique
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling.state import checkpoints
from tests import conftest

ACTIVATIONS = ('relu', 'relu6', 'hard_swish', 'swish')


def _inverted(activation, se_ratio, strides, residual, **kwargs):
  return nn_blocks.InvertedBottleneckBlock(
      in_filters=16, out_filters=16 if residual else 24, expand_ratio=4,
      strides=strides, activation=activation, se_ratio=se_ratio,
      expand_se_in_filters=True, se_gating_activation='hard_sigmoid', **kwargs)


CASES = {
    f'inverted-{a}-se{se}-s{s}-{"res" if r else "plain"}':
        (_inverted, (a, se, s, r))
    for a, se, s, r in itertools.product(
        ACTIVATIONS, (None, 0.25), (1, 2), (False, True))
}
CASES |= {
    f'bottleneck-{a}-se{se}-s{s}-{"proj" if p else "id"}': (
        lambda a, se, s, p: nn_blocks.BottleneckBlock(
            filters=4, strides=s, use_projection=p, activation=a, se_ratio=se),
        (a, se, s, p))
    for a, se, s, p in itertools.product(
        ('relu', 'swish'), (None, 0.25), (1, 2), (False, True))
    if p or s == 1
}
CASES |= {
    f'convbn-{a}-{"norm" if n else "bias"}': (
        lambda a, n: mobilenet.Conv2DBNBlock(
            filters=16, strides=2, activation=a, use_normalization=n,
            use_bias=not n), (a, n))
    for a, n in itertools.product((*ACTIVATIONS, 'linear'), (False, True))
}
CASES |= {
    f'residual-{a}-se{se}-s{s}-{"proj" if p else "id"}': (
        lambda a, se, s, p: nn_blocks.ResidualBlock(
            filters=16, strides=s, use_projection=p, activation=a, se_ratio=se),
        (a, se, s, p))
    for a, se, s, p in itertools.product(
        ('relu', 'swish'), (None, 0.25), (1, 2), (False, True))
    if p or s == 1
}
CASES |= {
    f'separable-{a}-s{s}-d{d}': (
        lambda a, s, d: nn_blocks.DepthwiseSeparableConvBlock(
            filters=24, kernel_size=5, strides=s, activation=a,
            dilation_rate=d), (a, s, d))
    for a, s, d in (('relu6', 1, 1), ('relu6', 2, 1), ('relu6', 1, 2),
                    ('hard_swish', 1, 1))
}
CASES |= {
    f'universal-{a}-{start}{middle}{end}-s{s}-{"res" if r else "plain"}'
    f'{"-scale" if scale else ""}': (
        lambda a, start, middle, end, s, r, scale:
        nn_blocks.UniversalInvertedBottleneckBlock(
            in_filters=16, out_filters=16 if r else 24, expand_ratio=3,
            strides=s, activation=a, start_dw_kernel_size=start,
            middle_dw_kernel_size=middle, end_dw_kernel_size=end,
            use_layer_scale=scale, layer_scale_init_value=0.7,
            middle_dw_downsample=bool(middle)),
        (a, start, middle, end, s, r, scale))
    for a, start, middle, end, s, r, scale in (
        ('relu', 3, 5, 0, 1, True, False), ('relu', 0, 3, 0, 2, False, False),
        ('relu', 3, 0, 0, 2, False, False), ('relu', 0, 0, 0, 1, True, False),
        ('relu', 5, 3, 3, 1, True, True), ('gelu', 3, 5, 0, 1, True, True))
}
CASES['inverted-fused'] = (
    lambda: _inverted('relu6', None, 1, True, use_depthwise=False), ())
CASES['inverted-expand1'] = (
    lambda: nn_blocks.InvertedBottleneckBlock(16, 16, 1, 1), ())
CASES['bottleneck-resnetd'] = (
    lambda: nn_blocks.BottleneckBlock(
        4, 2, use_projection=True, resnetd_shortcut=True), ())


def _pair(case, **kwargs):
  """Returns a built float block, its twin with its weights, and images."""
  make, args = CASES[case]
  images = conftest.random_images([8, 12, 12, 16])
  block = make(*args)
  block(images)
  conftest.randomize_norms(block)
  twin = twin_lib.TWINS[type(block)].from_config(leaves.full_config(block))
  if kwargs:
    plan = plan_lib.Plan([quantization_technique.Quantization(**kwargs)])
    twin.rewire(plan, 'block')
  twin(images)
  checkpoints.copy_variables(block, twin)
  return block, twin, images


def _calibrated(twin, images):
  """Returns the calibrated twin's outputs."""
  calibration.calibrate(twin, tf.data.Dataset.from_tensors((images, 0)))
  return twin(images, training=False).numpy()


@pytest.fixture(scope='module', params=CASES)
def pair(request):
  """Block, twin and images of a case: built once for all tests of the case."""
  tf_keras.utils.set_random_seed(0)
  return _pair(request.param)


def test_twin_in_pass_through_equals_the_float_block_bit_for_bit(pair):
  block, twin, images = pair
  with calibration.quantizer_mode(twin, calibration.Mode.PASS_THROUGH):
    np.testing.assert_array_equal(
        twin(images, training=False), block(images, training=False))
    np.testing.assert_array_equal(
        twin(images, training=True), block(images, training=True))


def test_8_bits_after_calibration_keep_25_db(pair):
  block, twin, images = pair
  expected = block(images, training=False).numpy()
  actual = _calibrated(twin, images)
  assert not np.array_equal(expected, actual), 'nothing was quantized'
  assert conftest.sqnr_db(expected, actual) >= 25.0


# One of every block: how many bits a leaf has does not depend on its options.
@pytest.mark.parametrize('case', [
    'inverted-relu6-se0.25-s1-res', 'bottleneck-swish-se0.25-s2-proj',
    'convbn-hard_swish-norm', 'residual-relu-se0.25-s1-proj',
    'separable-relu6-s1-d2', 'universal-gelu-350-s1-res-scale'])
def test_fewer_bits_lose_more(case):
  signal = {}
  for bits in (8, 5):
    block, twin, images = _pair(
        case, num_bits_weight=bits, num_bits_activation=bits)
    signal[bits] = conftest.sqnr_db(
        block(images, training=False).numpy(), _calibrated(twin, images))
  assert signal[5] < signal[8] - 6.0


def test_config_makes_the_same_twin_again(pair):
  _, twin, images = pair
  with tf_keras.utils.custom_object_scope({}):
    again = tf_keras.layers.deserialize(tf_keras.layers.serialize(twin))
  assert type(again) is type(twin)
  again(images)
  assert [w.shape for w in again.weights] == [w.shape for w in twin.weights]
  checkpoints.copy_variables(twin, again)
  np.testing.assert_array_equal(twin(images), again(images))


def test_every_gradient_arrives():
  _, twin, images = _pair('inverted-hard_swish-se0.25-s1-res')
  calibration.calibrate(twin, tf.data.Dataset.from_tensors((images, 0)))
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(twin(images, training=True)**2)
  gradients = tape.gradient(loss, twin.trainable_variables)
  for variable, gradient in zip(twin.trainable_variables, gradients):
    assert gradient is not None, variable.name
    assert np.any(gradient.numpy() != 0), variable.name


def test_training_moves_ranges_and_inference_does_not():
  _, twin, images = _pair('inverted-relu6-seNone-s1-res')
  calibration.calibrate(twin, tf.data.Dataset.from_tensors((images, 0)))
  ranges = [w for w in twin.weights if 'quantized_' in w.name]
  before = [w.numpy() for w in ranges]
  twin(images * 3.0, training=False)
  assert [w.numpy() for w in ranges] == before
  twin(images * 3.0, training=True)
  assert all(w.numpy() != b for w, b in zip(ranges, before) if b != 0)


def test_a_rule_leaves_a_layer_in_float():
  images = conftest.random_images([2, 8, 8, 16])
  rule = rules.Rule(path='block/conv1', parameters={'enabled': False})
  plan = plan_lib.Plan([quantization_technique.Quantization(rules=[rule])])
  twin = blocks.InvertedBottleneckBlockQuantized(16, 16, 4, 1).rewire(
      plan, 'block')
  twin(images)
  plan.assert_all_rules_matched()
  assert not twin._conv1.chain
  assert twin._conv0.chain and twin._conv2.chain


def test_a_rule_that_matches_nothing_is_an_error():
  plan = plan_lib.Plan([quantization_technique.Quantization(
      rules=[rules.Rule(path='blok/*', parameters={'enabled': False})])])
  twin = blocks.InvertedBottleneckBlockQuantized(16, 16, 4, 1)
  twin.rewire(plan, 'block')(tf.zeros([1, 8, 8, 16]))
  with pytest.raises(ValueError, match=r'blok/\*.*matches no layer'):
    plan.assert_all_rules_matched()


def test_an_activation_without_integer_recipe_is_refused_by_name():
  twin = blocks.InvertedBottleneckBlockQuantized(
      16, 16, 4, 1, activation='mish')
  with pytest.raises(ValueError, match="activation 'mish' cannot be quantized"):
    twin(tf.zeros([1, 8, 8, 16]))


def _copy_from_peer(twin, peer):
  """Gives twin and peer's block the same weights and ranges.

  The lower end after a ReLU is 0 in the twin; the peer's is on its way there
  from -6.
  """
  entry = topology.BLOCKS[topology.key(rules.float_class(type(twin)))]
  for unit in entry.units + entry.joins:
    for name in filter(None, (unit.op, unit.norm, unit.activation)):
      ours, theirs = (getattr(b, name, None) for b in (twin, peer))
      if ours is None or not ours.built:
        continue
      source = {w.name.split('/')[-1]: w for w in theirs.weights}
      if name == unit.activation:
        source['output_min:0'].assign(0.0)
      for weight in ours.weights:
        key = weight.name.split('/')[-1].replace('quantized_', '')
        weight.assign(source[key])


@pytest.mark.parametrize('activation', ['relu', 'relu6'])
@pytest.mark.parametrize('name', ['InvertedBottleneckBlock', 'BottleneckBlock'])
def test_twin_is_within_a_step_of_the_installed_peer(name, activation):
  from official.projects.qat.vision.modeling.layers import nn_blocks as peers
  kwargs = {
      'InvertedBottleneckBlock': {
          'in_filters': 16, 'out_filters': 16, 'expand_ratio': 4},
      'BottleneckBlock': {'filters': 4},
  }[name]
  kwargs |= {'strides': 1, 'activation': activation}
  # The peer takes it that what a block reads is quantized.
  images = grid.mark(
      conftest.random_images([8, 12, 12, 16]), grid.State.GRID)
  peer = getattr(peers, f'{name}Quantized')(**kwargs)
  peer(images, training=False)
  conftest.randomize_norms(peer)
  for _ in range(3):
    peer(images, training=True)
  # The peer has one scale for a whole depthwise kernel.
  rule = rules.Rule(layer_type='DepthwiseConv2D',
                    parameters={'weight_granularity': 'per_tensor'})
  plan = plan_lib.Plan([quantization_technique.Quantization(rules=[rule])])
  twin = getattr(blocks, f'{name}Quantized')(**kwargs).rewire(plan, 'block')
  twin(images)
  _copy_from_peer(twin, peer)
  expected = peer(images, training=False).numpy()
  # The peer does not round biases.
  with calibration.quantizer_mode(twin, calibration.Mode.EXPORT):
    actual = twin(images, training=False).numpy()
  last = twin._add if name == 'InvertedBottleneckBlock' else twin._activation3
  low, high = 0.0, 0.0
  for weight in last.weights:
    low = weight.numpy() if weight.name.endswith('min:0') else low
    high = weight.numpy() if weight.name.endswith('max:0') else high
  step = (high - low) / 255
  assert step > 0
  assert np.max(np.abs(actual - expected)) <= step * 1.001
