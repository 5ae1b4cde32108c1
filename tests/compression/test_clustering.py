"""Centroids against TFMOT's, and the table that keeps weights equal."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_model_optimization.python.core.clustering.keras import (
  cluster_config,
)
from tensorflow_model_optimization.python.core.clustering.keras import (
  clustering_centroids,
)
import tf_keras

from modelgarden_opt.compression import kernels
from modelgarden_opt.compression import plan
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import twin
from modelgarden_opt.compression.clustering import centroids
from modelgarden_opt.compression.clustering import clustering_technique

_FACTORY = clustering_centroids.CentroidsInitializerFactory
_INIT = cluster_config.CentroidInitialization


def _weights(sparsity=0.0, shape=(3, 3, 8, 16)):
  rng = np.random.default_rng(3)
  values = rng.normal(0.02, 0.1, shape).astype(np.float32)
  values[rng.uniform(size=shape) < sparsity] = 0
  return values


@pytest.mark.parametrize('preserve_sparsity', [False, True])
@pytest.mark.parametrize('initializer', ['LINEAR', 'DENSITY_BASED'])
def test_centroids_are_those_of_tfmot(initializer, preserve_sparsity):
  values = _weights(0.5 if preserve_sparsity else 0.0)
  theirs = _FACTORY.get_centroid_initializer(_INIT[initializer])(
      tf.constant(values), 16, preserve_sparsity=preserve_sparsity)
  ours, _ = centroids.cluster(values, 16, initializer, preserve_sparsity)
  np.testing.assert_allclose(
      ours, np.sort(theirs.get_cluster_centroids()), atol=1e-6)


@pytest.mark.parametrize('initializer', list(centroids.INITIALIZERS))
def test_every_weight_goes_to_its_nearest_centroid(initializer):
  values = _weights()
  found, indices = centroids.cluster(values, 8, initializer)
  expected = np.abs(values[..., np.newaxis] - found).min(-1)
  np.testing.assert_allclose(np.abs(values - found[indices]), expected)


def test_k_means_is_closer_than_the_others():
  values = _weights()

  def error(initializer):
    found, indices = centroids.cluster(values, 8, initializer)
    return np.mean((values - found[indices])**2)

  assert error('KMEANS_PLUS_PLUS') < 0.8 * min(
      error(name) for name in ('LINEAR', 'RANDOM', 'DENSITY_BASED'))


@pytest.mark.parametrize('initializer', list(centroids.INITIALIZERS))
@pytest.mark.parametrize('values', [
    _weights(0.5), -np.abs(_weights(0.5)), np.zeros([4, 4], np.float32),
    np.array([[0.0, 1.0], [0.0, 0.0]])])
def test_zeros_and_signs_are_preserved(initializer, values):
  found, indices = centroids.cluster(values, 5, initializer, True)
  assert found.shape == (5,)
  np.testing.assert_array_equal(np.sign(found[indices]), np.sign(values))


def test_what_is_clustered_is_preserved_or_refused():
  values = np.array([0.5, -1.0, 0.5, 0.0])
  found, indices = centroids.cluster(values, 4, centroids.PRESERVE)
  np.testing.assert_array_equal(found[indices], values)
  with pytest.raises(ValueError, match='3 distinct values, more than 2'):
    centroids.cluster(values, 2, centroids.PRESERVE)


def _conv(layer, **options):
  clustering = clustering_technique.Clustering(
      [rules.Rule(parameters={'enabled': True})], **options)
  built = twin.to_twin(layer, plan.Plan([clustering]), 'conv')
  built.build([None, 8, 8, 6])
  table = built.chain.clustering
  table.start(built.kernel_variable)
  return built, table


@pytest.mark.parametrize('per_channel', [False, True])
@pytest.mark.parametrize('layer', [
    tf_keras.layers.Conv2D(5, 3), tf_keras.layers.DepthwiseConv2D(3)])
def test_training_keeps_clusters_and_lowers_the_loss(layer, per_channel):
  built, table = _conv(layer, number_of_clusters=4,
                       cluster_per_channel=per_channel)
  kernel = built.kernel_variable
  before, assignments = kernel.numpy(), table.assignments.numpy()
  target = tf.constant(_weights(shape=kernel.shape))
  optimizer = tf_keras.optimizers.Adam(0.01)
  losses = []
  for _ in range(20):
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum((kernel - target)**2)
    optimizer.apply_gradients([(tape.gradient(loss, kernel), kernel)])
    table.apply(kernel)
    losses.append(float(loss))
    assert table.check(kernel) == []
  assert losses[-1] < losses[0]
  assert np.any(kernel != before)
  np.testing.assert_array_equal(table.assignments, assignments)
  np.testing.assert_array_equal(
      kernel, np.reshape(table.centroids, -1)[assignments])
  rows = 1 if not per_channel else kernel.shape[-1] * (
      kernel.shape[-2] if isinstance(built, tf_keras.layers.DepthwiseConv2D)
      else 1)
  assert table.centroids.shape == (rows, 4)


def test_a_step_is_the_mean_of_the_steps_of_a_cluster():
  built, table = _conv(tf_keras.layers.Conv2D(5, 3), number_of_clusters=4)
  kernel, index = built.kernel_variable, table.assignments.numpy()
  step = _weights(shape=kernel.shape)
  expected = table.centroids.numpy().reshape(-1) + np.array([
      step[index == i].mean() for i in range(4)])
  kernel.assign_add(step)
  table.apply(kernel)
  np.testing.assert_allclose(
      np.reshape(table.centroids, -1), expected, atol=1e-6)


def _large(shape, **options):
  """Returns the table and the kernel of a layer of many weights."""
  layer = (tf_keras.layers.Dense(shape[-1]) if len(shape) == 2
           else tf_keras.layers.Conv2D(shape[-1], shape[0], use_bias=False))
  clustering = clustering_technique.Clustering(number_of_clusters=16, **options)
  built = twin.to_twin(layer, plan.Plan([clustering]), 'large')
  built.build([None, 8, 8, shape[-2]] if len(shape) == 4 else [None, shape[0]])
  kernel = built.kernel_variable
  kernel.assign(_weights(0.3, shape))
  built.chain.clustering.start(kernel)
  return built.chain.clustering, kernel


_LARGE = [(3, 3, 64, 64), (2048, 501)]


@pytest.mark.parametrize('shape', _LARGE)
def test_small_updates_of_large_kernels_arrive(shape):
  table, kernel = _large(shape)
  before = table.centroids.numpy().astype(np.float64)
  for _ in range(20):
    kernel.assign_add(tf.fill(shape, 1e-6))
    table.apply(kernel)
  # Each addition of 1e-6 to a weight of up to 0.5 rounds by 3e-8 at most.
  np.testing.assert_allclose(table.centroids - before, 20e-6, atol=20 * 3e-8)
  assert table.check(kernel) == []


@pytest.mark.parametrize('shape', _LARGE)
@pytest.mark.parametrize('options', [
    {}, {'preserve_sparsity': True}, {'cluster_per_channel': True}])
def test_without_an_update_nothing_changes(shape, options):
  table, kernel = _large(shape, **options)
  copy = tf.Variable(kernel * 0.9)
  before = [v.numpy() for v in (kernel, table.centroids, copy)]
  for _ in range(3):
    table.apply(kernel)
    table.apply_to_copy(copy)
  for value, expected in zip((kernel, table.centroids, copy), before):
    np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize('preserve_sparsity', [False, True])
@pytest.mark.parametrize('shape', _LARGE)
def test_means_of_large_kernels_are_exact_also_of_moving_averages(
    shape, preserve_sparsity):
  table, kernel = _large(shape, preserve_sparsity=preserve_sparsity)
  index = table.assignments.numpy()
  update = _weights(shape=shape) * 1e-3
  copy = tf.Variable(kernel)
  for variable, apply in ((kernel, table.apply), (copy, table.apply_to_copy)):
    before = variable.numpy()
    variable.assign_add(update)
    moved = variable.numpy().astype(np.float64)
    apply(variable)
    for cluster in range(16):
      members = index == cluster
      expected = moved[members].mean()
      if preserve_sparsity and not before[members].any():
        expected = 0.0
      np.testing.assert_allclose(
          variable.numpy()[members], expected, atol=3e-8)


def test_depthwise_kernels_are_left_alone_unless_a_rule_says_so():
  clustering = clustering_technique.Clustering()
  assert clustering.transform(
      kernels.Kernel('a', 'DepthwiseConv2D', (3, 3, 8, 1))) is None
  with pytest.raises(ValueError, match='no kernel is clustered'):
    clustering.assert_all_rules_matched()
