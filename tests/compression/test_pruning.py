"""Masks against TFMOT's, schedules, N:M, and what is left dense."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import kernels
from modelgarden_opt.compression.pruning import mask
from modelgarden_opt.compression.pruning import pruning_technique
from modelgarden_opt.compression.pruning import schedules
from modelgarden_opt.compression.pruning import selection
from modelgarden_opt.configs import overrides
from modelgarden_opt.configs import pruning as pruning_cfg

SCHEDULE = schedules.Schedule(
    name='PolynomialDecay', begin_step=10, end_step=105, initial_sparsity=0.2,
    final_sparsity=0.8, power=3.0, frequency=20)


def _tfmot_mask(weights, sparsity, m_by_n=None, block_size=(1, 1)):
  from tensorflow_model_optimization.python.core.sparsity.keras import (
      pruning_impl,
  )
  variable = tf.Variable(weights)
  mask_variable = tf.Variable(tf.ones_like(weights))
  pruning = pruning_impl.Pruning(
      training_step_fn=lambda: 0,
      pruning_vars=[(variable, mask_variable, tf.Variable(0.0))],
      pruning_schedule=lambda step: (True, tf.constant(sparsity)),
      block_size=block_size, block_pooling_type='AVG',
      sparsity_m_by_n=m_by_n)
  if m_by_n:
    return pruning._update_mask_sparsity_m_by_n(variable, mask_variable)[1]
  return pruning._maybe_update_block_mask(variable)[1].numpy()


@pytest.mark.parametrize('sparsity', [0.0, 0.33, 0.5, 0.9])
@pytest.mark.parametrize('shape', [[3, 3, 5, 4], [40, 25]])
def test_masks_are_those_of_tfmot(sparsity, shape):
  weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  np.testing.assert_array_equal(
      selection.keep_largest(np.abs(weights), sparsity),
      _tfmot_mask(weights, sparsity).astype(bool))


def test_blocks_are_those_of_tfmot_and_of_convolutions_as_well():
  weights = np.random.default_rng(0).normal(size=[40, 24]).astype(np.float32)
  kept = selection.keep_blocks(np.abs(weights), 0.5, (4, 2))
  np.testing.assert_array_equal(
      kept, _tfmot_mask(weights, 0.5, block_size=(4, 2)).astype(bool))
  convolution = np.abs(weights).reshape(2, 2, 10, 24)
  np.testing.assert_array_equal(
      selection.keep_blocks(convolution, 0.5, (4, 2)).reshape(40, 24), kept)


@pytest.mark.parametrize('sparsity', [0.0, 0.1, 0.5, 0.8, 0.95])
@pytest.mark.parametrize('block', [(4, 1), (16, 16), (27, 10), (100, 3)])
@pytest.mark.parametrize('shape', [[3, 3, 12, 16], [130, 10]])
def test_whole_blocks_meet_a_sparsity_to_half_a_block(shape, block, sparsity):
  magnitudes = np.abs(np.random.default_rng(0).normal(size=shape))
  kept = selection.keep_blocks(magnitudes, sparsity, block)
  zeros = np.sum(~kept)
  rows, columns = kept.reshape(-1, shape[-1]).shape
  largest = min(block[0], rows) * min(block[1], columns)
  assert abs(zeros - sparsity * kept.size) <= largest / 2


@pytest.mark.parametrize('shape', [[3, 3, 8, 6], [40, 24]])
@pytest.mark.parametrize('m_by_n', [(2, 4), (1, 4), (3, 8)])
def test_m_by_n_zeros_lie_along_input_channels(shape, m_by_n):
  m, n = m_by_n
  weights = np.abs(np.random.default_rng(0).normal(size=shape))
  kept = selection.keep_m_by_n(weights, m_by_n)
  groups = np.moveaxis(kept, -2, -1).reshape(-1, n)
  np.testing.assert_array_equal(np.sum(~groups, axis=-1), m)
  values = np.moveaxis(weights, -2, -1).reshape(-1, n)
  for value, group in zip(values, groups):
    assert value[~group].max() <= value[group].min()


@pytest.mark.parametrize(('first', 'second', 'expected'), [
    ({'begin_step': 60}, {'end_step': 40},
     'conv_0: end_step: must be >= begin_step 60, received 40'),
    ({'initial_sparsity': 0.4}, {'final_sparsity': 0.3},
     'conv_0: initial_sparsity: must be <= final_sparsity 0.3, received 0.4'),
    ({'begin_step': 60}, {'end_step': 80}, '')])
def test_rules_that_match_one_layer_must_not_contradict(
    first, second, expected):
  config = pruning_cfg.Pruning(end_step=100, rules=[
      pruning_cfg.PruningRule(path='conv*', **first),
      pruning_cfg.PruningRule(path='*_0', **second)])
  assert not overrides.problems_of({'pruning': config}, 100)
  technique = pruning_technique.make(config)
  technique.transform(kernels.Kernel('conv_0', 'Conv2D', (3, 3, 8, 8)))
  technique.transform(kernels.Kernel('conv_1', 'Conv2D', (3, 3, 8, 8)))
  if not expected:
    technique.assert_all_rules_matched()
    return
  with pytest.raises(ValueError) as e:
    technique.assert_all_rules_matched()
  assert str(e.value).endswith(f'add up to {expected}')


def test_m_by_n_becomes_sparse_group_by_group():
  weights = np.abs(np.random.default_rng(0).normal(size=[1, 1, 32, 16]))
  before = selection.keep_m_by_n(weights, (2, 4), 0.5)
  after = selection.keep_m_by_n(weights, (2, 4), 1.0)
  assert np.mean(~before) == 0.25 and np.mean(~after) == 0.5
  assert not np.any(~before & after)


def test_equal_weights_are_pruned_to_the_last_one():
  kept = selection.keep_largest(np.ones([10, 10]), 0.37)
  assert np.sum(~kept) == 37


@pytest.mark.parametrize('step', [10, 25, 60, 104, 105])
def test_polynomial_decay_is_that_of_tfmot(step):
  from tensorflow_model_optimization.python.core.sparsity.keras import (
      pruning_schedule,
  )
  expected = pruning_schedule.PolynomialDecay(
      0.2, 0.8, 10, 105, power=3, frequency=1)(step)[1]
  assert SCHEDULE.sparsity(step) == pytest.approx(float(expected), abs=1e-6)


def test_masks_are_set_at_the_end_whatever_the_frequency():
  assert SCHEDULE.last_update(9) is None
  steps = [10]
  while (following := SCHEDULE.next_update(steps[-1])) is not None:
    steps.append(following)
  assert steps == [10, 30, 50, 70, 90, 105]
  assert SCHEDULE.last_update(500) == 105
  assert SCHEDULE.sparsity(500) == 0.8 and SCHEDULE.sparsity(9) == 0.0


def _masked_layer(schedule=SCHEDULE):
  layer = tf_keras.layers.Conv2D(7, 3)
  layer.build([None, 8, 8, 5])
  transform = mask.PruningMask(schedule)
  transform.build(layer, layer.kernel)
  return layer, transform


def test_a_mask_is_set_once_when_it_is_due():
  layer, transform = _masked_layer()
  assert not transform.update(layer.kernel, 9)
  assert transform.update(layer.kernel, 12)
  assert transform.sparsity() == pytest.approx(0.2, abs=1 / 315)
  assert not transform.update(layer.kernel, 29)
  assert transform.update(layer.kernel, 300)
  assert np.sum(layer.kernel.numpy() == 0) == round(315 * 0.8)
  assert not transform.update(layer.kernel, 301)
  assert transform.check(layer.kernel) == []


def test_pruned_elements_get_no_gradient_and_are_checked():
  layer, transform = _masked_layer()
  transform.update(layer.kernel, 105)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(transform(tf.convert_to_tensor(layer.kernel), True))
  gradient = tape.gradient(loss, layer.kernel)
  np.testing.assert_array_equal(gradient, transform.mask)
  layer.kernel.assign_add(tf.ones_like(layer.kernel))
  assert transform.check(layer.kernel) == ['252 pruned elements are not zero']
  transform.apply(layer.kernel)
  assert not transform.check(layer.kernel)


def _technique(*rules, **kwargs):
  fields = {'pruning_schedule': 'PolynomialDecay', 'begin_step': 0,
            'end_step': 10, 'initial_sparsity': 0.0, 'final_sparsity': 0.5,
            'power': 3.0, 'frequency': 1}
  return pruning_technique.Pruning(rules, **fields, **kwargs)


@pytest.mark.parametrize(('kwargs', 'layer_type', 'shape', 'reason'), [
    ({}, 'Conv2D', (3, 3, 8, 8), ''),
    ({}, 'Dense', (8, 8), ''),
    ({}, 'DepthwiseConv2D', (3, 3, 8, 1), 'policy default'),
    ({'policy': 'all'}, 'DepthwiseConv2D', (3, 3, 8, 1), ''),
    ({'policy': 'pointwise'}, 'Conv2D', (3, 3, 8, 8), 'policy pointwise'),
    ({'policy': 'pointwise'}, 'Conv2D', (1, 1, 8, 8), ''),
    ({'sparsity_m_by_n': (2, 4)}, 'Conv2D', (3, 3, 3, 8),
     'not a multiple of 4'),
    ({'sparsity_m_by_n': (2, 4), 'policy': 'all'}, 'DepthwiseConv2D',
     (3, 3, 8, 1), 'one input channel'),
])
def test_policies_say_what_stays_dense_and_why(
    kwargs, layer_type, shape, reason):
  pruning = _technique(**kwargs)
  made = pruning.transform(kernels.Kernel('a/b', layer_type, shape))
  assert (made is None) == bool(reason)
  assert reason in pruning.decisions[0].reason


def test_a_registered_schedule_is_used_and_names_are_unique():
  @schedules.SCHEDULES.register('HalfWay')
  def _half(step, begin_step, end_step, initial_sparsity, final_sparsity,
            power):
    del step, begin_step, end_step, initial_sparsity, power
    return final_sparsity / 2
  try:
    transform = _technique().transform(kernels.Kernel('a', 'Dense', (4, 4)))
    half = schedules.Schedule(**{
        **vars(transform.schedule), 'name': 'HalfWay'})
    assert half.sparsity(5) == 0.25 and half.sparsity(10) == 0.5
    with pytest.raises(ValueError, match='registered already'):
      schedules.SCHEDULES.register('HalfWay')
  finally:
    del schedules.SCHEDULES['HalfWay']
