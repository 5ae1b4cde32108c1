"""Structured pruning: groups, costs, weights, choice."""

import numpy as np
from official.vision.modeling.layers import nn_blocks
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import plan
from modelgarden_opt.compression import twin
from modelgarden_opt.configs import pruning as pruning_cfg
from modelgarden_opt.modeling import batch_norm
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.channel_pruning import channel_search
from modelgarden_opt.modeling.channel_pruning import channels
from modelgarden_opt.modeling.channel_pruning import costs
from modelgarden_opt.modeling.channel_pruning import importance
from tests import conftest

_RESNET = {'task': {'model': {'backbone': {
    'type': 'resnet', 'resnet': {'model_id': 18, 'depth_multiplier': 0.25}}}}}
BLOCKS = {
    'inverted': lambda: nn_blocks.InvertedBottleneckBlock(
        16, 16, expand_ratio=2, strides=1, se_ratio=0.25),
    'fused': lambda: nn_blocks.InvertedBottleneckBlock(
        16, 16, expand_ratio=2, strides=1, use_depthwise=False),
    'bottleneck': lambda: nn_blocks.BottleneckBlock(
        16, strides=2, use_projection=True, se_ratio=0.25),
    'residual': lambda: nn_blocks.ResidualBlock(16, strides=1),
    'universal': lambda: nn_blocks.UniversalInvertedBottleneckBlock(
        16, 16, expand_ratio=2, strides=1),
}


def _block_of(name, filters=None):
  block = twin.to_twin(BLOCKS[name](), plan.Plan([], filters), name)
  inputs = tf_keras.Input([8, 8, 16])
  return tf_keras.Model(inputs, block(inputs))


@pytest.mark.parametrize('name', BLOCKS)
def test_removing_silent_channels_changes_nothing(name):
  """Channels whose consumer reads them with weight zero can go."""
  model = _block_of(name)
  conftest.randomize_norms(model)
  found = channels.groups(model)
  kept = {group.path: np.arange(0, group.size, 2) for group in found}
  removed = {path: np.arange(1, 2 * len(index), 2)
             for path, index in kept.items()}
  for group in found:
    # The channels that will be removed: nothing reads them any more.
    for cut in group.cuts:
      if cut.axis == 2 and 'depthwise' not in cut.variable.name:
        value = cut.variable.numpy()
        value[:, :, removed[group.path]] = 0
        cut.variable.assign(value)
  candidate = channels.Candidate(model, found, kept)
  small = _block_of(name, candidate.filters)
  channel_search.transfer(candidate, small)
  images = conftest.random_images([2, 8, 8, 16])
  np.testing.assert_allclose(
      model(images, training=False), small(images, training=False), atol=1e-5)
  assert small.count_params() < model.count_params()


def test_groups_of_whole_models(tiny_params):
  from official.core import task_factory
  model = factory.neutral(task_factory.get_task(
      tiny_params('mobilenet_v2').task).build_model())
  # The first block does not expand, so it has no channels of its own.
  assert [(g.path, g.size) for g in channels.groups(model)] == [
      ('backbone/inverted_bottleneck_block_1/conv0', 48),
      ('backbone/inverted_bottleneck_block_2/conv0', 72)]


@pytest.fixture(scope='module')
def neutral(tiny_params):
  from official.core import task_factory
  params = tiny_params('resnet18', _RESNET)
  return factory.neutral(task_factory.get_task(params.task).build_model())


def test_costs_are_those_of_the_model(neutral):
  whole = channels.Candidate(neutral, channels.groups(neutral), {})
  assert costs.COSTS['params'](neutral)(whole) == sum(
      int(np.prod(v.shape)) for v in neutral.trainable_variables)
  function = tf.function(lambda x: neutral(x, training=False))
  graph = function.get_concrete_function(
      tf.TensorSpec([1, 32, 32, 3])).graph
  expected = 0
  for op in graph.get_operations():
    if op.type in ('Conv2D', 'MatMul'):
      kernel = op.inputs[1].shape
      expected += 2 * int(
          np.prod(kernel) * np.prod(op.outputs[0].shape[1:-1]))
  assert costs.COSTS['flops'](neutral)(whole) == expected


@pytest.mark.parametrize('target', ['flops', 'params'])
@pytest.mark.parametrize('importance', ['magnitude', 'batch_norm'])
def test_target_is_met_in_multiples(neutral, target, importance):
  config = pruning_cfg.Pruning(
      granularity='channel', target=target, keep_ratio=0.6,
      importance=importance, channel_multiple=4)
  result = channel_search.prune(neutral, config, None)
  assert 0.5 < result.ratio <= 0.6
  assert all(count % 4 == 0 for count in result.candidate.filters.values())
  small = factory.neutral(neutral, result.candidate.filters)
  cost = costs.COSTS[target]
  actual = cost(small)(channels.Candidate(small, [], {}))
  whole = cost(neutral)(channels.Candidate(neutral, [], {}))
  assert actual / whole == pytest.approx(result.ratio)


def test_the_least_important_channels_go(neutral):
  group = channels.groups(neutral)[0]
  group.norm.gamma.assign(np.arange(1.0, group.size + 1))
  config = pruning_cfg.Pruning(
      granularity='channel', importance='batch_norm', keep_ratio=0.7,
      channel_multiple=1)
  result = channel_search.prune(neutral, config, None)
  kept = result.candidate.filters[group.path]
  assert 0 < kept < group.size
  np.testing.assert_array_equal(
      result.candidate.value(group.norm.gamma),
      np.arange(group.size - kept + 1.0, group.size + 1))


def test_taylor_is_the_squared_change_of_the_loss(neutral):
  found = channels.groups(neutral)[:1]
  norm = found[0].norm
  rng = np.random.default_rng(1)
  batches = [{v.ref(): tf.constant(rng.normal(size=v.shape), tf.float32)
              for v in (norm.gamma, norm.beta)} for _ in range(2)]
  expected = sum(
      (b[norm.gamma.ref()] * norm.gamma + b[norm.beta.ref()] * norm.beta)**2
      for b in batches)
  actual = importance.of('taylor', found, lambda: batches)
  np.testing.assert_allclose(actual[found[0].path], expected, rtol=1e-5)


def test_latency_is_measured_on_files(neutral):
  found = channels.groups(neutral)
  cost = costs.COSTS['latency'](neutral)
  small = channels.Candidate(
      neutral, found, {g.path: np.arange(2) for g in found})
  first = cost(small)
  assert first > 0
  # Measured once: a second measurement would not be the same to the bit.
  assert cost(small) == first


def test_rules_leave_groups_whole(neutral):
  rule = pruning_cfg.PruningRule(path='*block_0/*', enabled=False)
  config = pruning_cfg.Pruning(
      granularity='channel', keep_ratio=0.7, rules=[rule])
  groups = channel_search.prune(neutral, config, None).groups
  assert groups[0].kept == groups[0].size and groups[0].reason
  assert all(g.kept < g.size for g in groups[1:])


@pytest.mark.parametrize('values, expected', [
    ({'keep_ratio': 0.01}, 'keep_ratio: 0.01 is out of reach'),
    ({'target': 'flop'}, "target: 'flop' is not registered; did you mean"),
    ({'rules': [{'path': 'nothing*'}]}, 'matches no layer'),
    ({'rules': [{'path': '*', 'enabled': False}]}, 'leave no channels'),
])
def test_what_cannot_be_done_is_refused(neutral, values, expected):
  config = pruning_cfg.Pruning(granularity='channel')
  config.override(values)
  with pytest.raises(errors.UsageError, match=expected):
    channel_search.prune(neutral, config, None)


def test_a_model_without_such_channels_is_refused():
  inputs = tf_keras.Input([4, 4, 3])
  model = tf_keras.Model(inputs, tf_keras.layers.Conv2D(4, 3)(inputs))
  with pytest.raises(errors.UsageError, match='the model has none'):
    channel_search.prune(
        model, pruning_cfg.Pruning(granularity='channel'), None)


def test_estimated_statistics_are_those_of_the_batches(neutral):
  rng = np.random.default_rng(0)
  batches = [tf.constant(rng.normal(1.0, 2.0, [4, 32, 32, 3]), tf.float32)
             for _ in range(3)]
  first = next(layer for layer in neutral._flatten_layers() if isinstance(
      layer, tf_keras.layers.BatchNormalization))
  conv = next(layer for layer in neutral._flatten_layers() if isinstance(
      layer, tf_keras.layers.Conv2D))
  batch_norm.reestimate(neutral, batches)
  outputs = [conv(images).numpy() for images in batches]
  np.testing.assert_allclose(
      first.moving_mean, np.mean([o.mean((0, 1, 2)) for o in outputs], 0),
      rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(
      first.moving_variance,
      np.mean([o.var((0, 1, 2), ddof=1) for o in outputs], 0), rtol=1e-3)
  # Whatever the layers after it read: they see normalized values.
  outputs = neutral(tf.concat(batches, 0), training=False)
  assert np.all(np.isfinite(outputs))
