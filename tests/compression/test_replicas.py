"""One range, one mask, one table, however many replicas train the model."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import replicas
from modelgarden_opt.compression.clustering import table
from modelgarden_opt.compression.pruning import mask
from modelgarden_opt.compression.pruning import schedules
from modelgarden_opt.compression.quantization import quantizers
from modelgarden_opt.training import strategies


@pytest.fixture(params=[1, 2, 4])
def strategy(request):
  # A process has one of each kind, see `training.strategies`.
  return strategies._of_logical_cpus(request.param, None, 1)


def _on_replicas(strategy, batches, step):
  """Runs a traced step on one batch a replica."""
  values = strategy.experimental_distribute_values_from_function(
      lambda context: tf.constant(
          batches[context.replica_id_in_sync_group], tf.float32))
  return strategy.experimental_local_results(
      tf.function(lambda v: strategy.run(step, args=(v,)))(values))


def test_a_range_is_the_union_of_the_replicas(strategy, tmp_path):
  """The mean of the maxima 8 and 20 would be 14, and 20 would be clipped."""
  batches = [[-3.0, 8.0], [-5.0, 20.0], [-1.0, 7.0], [-2.0, 1.0]][
      :strategy.num_replicas_in_sync]
  low, high = np.min(batches), np.max(batches)
  with strategy.scope():
    layer = tf_keras.layers.Layer()
    quantizer = quantizers.ActivationQuantizer(momentum=0.0)
    quantizer.build(layer, 'output')
  outputs = _on_replicas(
      strategy, batches, lambda x: quantizer(x, training=True))
  step = (high - low) / 255
  for batch, output in zip(batches, outputs):
    np.testing.assert_allclose(output, batch, atol=0.51 * step)
  for end, expected in ((quantizer.minimum, low), (quantizer.maximum, high)):
    assert [float(v) for v in strategy.experimental_local_results(end)] == (
        [expected] * len(batches))
    assert replicas.value(end) == expected
  evaluated = _on_replicas(
      strategy, batches, lambda x: quantizer(x, training=False))
  for output, expected in zip(evaluated, outputs):
    np.testing.assert_allclose(output, expected, atol=1e-6)
  path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / 'ckpt'))
  saved = [tf.train.load_variable(path, name) for name, _ in
           tf.train.list_variables(path) if 'layer/' in name]
  assert sorted(saved) == pytest.approx([low, high])


@pytest.mark.parametrize('batches', [
    [[-3.0, 8.0], [-5.0, 20.0]], [[-3.0, -8.0], [-5.0, -2.0]],
    [[np.inf, 1.0], [np.nan, 2.0]]])
def test_ranges_are_joined_by_collective_ops_too(batches, monkeypatch):
  """As several processes and TPUs do it.

  Of two replicas: a process has collective ops of one size of groups.
  """
  strategy = strategies._of_logical_cpus(2, None, 1)
  monkeypatch.setattr(replicas, '_in_one_process', lambda strategy: False)
  outputs = _on_replicas(strategy, batches, replicas.largest)
  for output in outputs:
    np.testing.assert_array_equal(output, np.max(batches, axis=0))


def test_a_range_of_replicas_freezes(strategy):
  with strategy.scope():
    quantizer = quantizers.ActivationQuantizer()
    quantizer.build(tf_keras.layers.Layer(), 'output')
  quantizer.maximum.assign(2.0)
  quantizer.freeze()
  outputs = _on_replicas(
      strategy, [[5.0]] * strategy.num_replicas_in_sync,
      lambda x: quantizer(x, training=True))
  assert all(float(output[0]) == pytest.approx(2.0, abs=0.02)
             for output in outputs)


def _kernel(transform, strategy):
  with strategy.scope():
    layer = tf_keras.layers.Conv2D(6, 3)
    layer.build([None, 8, 8, 4])
    transform.build(layer, layer.kernel)
  return layer.kernel


def _copies_after(strategy, kernel, transform, changes):
  """Takes a step that changes every replica's kernel the same; applies."""

  def step(change):
    def add(strategy):
      strategy.extended.update(
          kernel, lambda copy: copy.assign_add(change[0] * tf.ones_like(copy)),
          group=False)
    tf.distribute.get_replica_context().merge_call(add)
    replicas.update([kernel], lambda _, copy: transform.apply(copy))
    return change

  with strategy.scope():
    _on_replicas(strategy, changes, step)
  return [v.numpy() for v in strategy.experimental_local_results(kernel)]


def test_masks_hold_on_every_replica(strategy):
  transform = mask.PruningMask(schedules.Schedule(
      name='ConstantSparsity', begin_step=0, end_step=0, initial_sparsity=0.0,
      final_sparsity=0.5, power=3.0, frequency=1))
  kernel = _kernel(transform, strategy)
  assert transform.update(kernel, 0)
  assert not transform.update(kernel, 1)
  assert transform.summaries(kernel)['sparsity'] == 0.5
  assert transform.check(kernel) == []
  copies = _copies_after(strategy, kernel, transform, [[0.5]] * 4)
  for copy in copies:
    np.testing.assert_array_equal(copy == 0, transform.mask.numpy() == 0)
    np.testing.assert_array_equal(copy, copies[0])


def test_clusters_hold_on_every_replica(strategy):
  transform = table.ClusterTable(4)
  kernel = _kernel(transform, strategy)
  transform.start(kernel)
  before = transform.centroids.numpy()
  copies = _copies_after(strategy, kernel, transform, [[0.5]] * 4)
  for copy in copies:
    np.testing.assert_array_equal(copy, copies[0])
  assert len(np.unique(copies[0])) == 4
  for centroid in strategy.experimental_local_results(transform.centroids):
    np.testing.assert_allclose(centroid, before + 0.5, atol=1e-6)
  assert transform.check(kernel) == []
