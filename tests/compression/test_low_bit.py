"""Which kernels have four bits where the block asks for them."""

import pytest
import tf_keras

from modelgarden_opt.compression import kernels
from modelgarden_opt.configs import overrides
from modelgarden_opt.configs import quantization
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling import kernel_report

layers = tf_keras.layers


def _bits(**fields):
  """Returns bits and reason by path of a model with one kernel of each kind."""
  inputs = tf_keras.Input([8, 8, 3])
  x = layers.Conv2D(8, 1)(inputs)
  x = layers.Conv2D(8, 3, padding='same')(x)
  x = layers.DepthwiseConv2D(3, padding='same')(x)
  x = layers.Conv2D(8, 1)(x)
  x = layers.Conv2D(8, 1, strides=2)(x)
  x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
  block = quantization.Quantization(
      change_num_bits=True, **{'num_bits_weight': 4, **fields})
  planned = kernel_report.plan_kernels(
      tf_keras.Model(inputs, x), factory.make_techniques([block]))
  return {p.path: (p.num_bits, p.bits_reason) for p in planned}


def test_four_bits_are_used_where_xnnpack_has_kernels_for_them():
  found = _bits()
  assert found['conv2d_0'] == (8, 'first layer')
  assert found['conv2d_2'] == (4, '') and found['dense_0'] == (4, '')
  for path in ('conv2d_1', 'depthwise_conv2d_0', 'conv2d_3'):
    assert found[path] == (
        8, 'low_bit pointwise: no XNNPACK kernel of 4 bits')


def test_all_but_the_first_may_have_four_bits():
  found = _bits(low_bit='all')
  assert found.pop('conv2d_0') == (8, 'first layer')
  assert set(found.values()) == {(4, '')} and len(found) == 5


def test_rules_win_over_the_policy():
  found = _bits(rules=[
      quantization.QuantizationRule(path='conv2d_0', num_bits_weight=4),
      quantization.QuantizationRule(path='dense_0', num_bits_weight=8)])
  assert found['conv2d_0'] == (4, '') and found['dense_0'] == (8, '')
  assert found['conv2d_2'] == (4, '')


@pytest.mark.parametrize('bits', [3, 6, 8])
def test_other_widths_are_those_of_all_kernels(bits):
  assert set(_bits(num_bits_weight=bits).values()) == {(bits, '')}


def test_policies_are_checked():
  block = quantization.Quantization(low_bit='pointwize')
  assert overrides.problems_of({'quantization': block}) == [
      'quantization.low_bit: must be one of pointwise, all, received '
      "'pointwize'; did you mean 'pointwise'?"]


@pytest.mark.parametrize('layer_type, shape, strides, matrix', [
    ('Dense', (8, 4), (), True), ('Conv2D', (1, 1, 8, 4), (1, 1), True),
    ('Conv2D', (1, 1, 8, 4), (2, 2), False),
    ('Conv2D', (3, 3, 8, 4), (1, 1), False),
    ('DepthwiseConv2D', (1, 1, 8, 1), (1, 1), False)])
def test_what_is_a_matrix_product_for_every_pixel(
    layer_type, shape, strides, matrix):
  assert kernels.Kernel('a', layer_type, shape, strides).is_matrix == matrix
