"""The clusters of a kernel: a transform that keeps weights equal."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.clustering import centroids


class ClusterTable(transforms.KernelTransform):
  """Makes the weights of a cluster share one value, and keeps them there.

  As with pruning masks the variable itself is constrained: after every
  training step each weight is set to the mean of its cluster (`apply`). That
  is a projected gradient step with the average of the gradients, TFMOT's
  `GradientAggregation.AVG`, and works with every optimizer and regularizer.
  Assignments stay as they were found. Source: Han et al., "Deep Compression",
  arXiv:1510.00149, section 3.
  """

  technique = 'clustering'
  constrains = True
  shows_in_files = True

  def __init__(
      self,
      number_of_clusters: int,
      initializer: str = 'LINEAR',
      per_channel: bool = False,
      preserve_sparsity: bool = False,
  ):
    """Initializes the transform.

    Args:
      number_of_clusters: 2 to 256.
      initializer: Key of `centroids.INITIALIZERS`, or `PRESERVE`.
      per_channel: Whether every output channel has separate clusters.
      preserve_sparsity: Whether zeros stay zeros, see `centroids.cluster`.
    """
    super().__init__()
    self.number_of_clusters = number_of_clusters
    self.shares_values = not per_channel
    self._initializer = initializer
    self._per_channel = per_channel
    self._preserve_sparsity = preserve_sparsity

  def build(self, layer: tf_keras.layers.Layer, kernel: tf.Variable) -> None:
    self._depthwise = isinstance(layer, tf_keras.layers.DepthwiseConv2D)
    rows = self._num_rows(kernel.shape)

    def variable(name, shape, dtype):
      return layer.add_weight(
          name=f'clustering_{name}', shape=shape, dtype=dtype,
          initializer='zeros', trainable=False,
          synchronization=tf.VariableSynchronization.AUTO,
          aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

    self.centroids = variable(
        'centroids', (rows, self.number_of_clusters),
        transforms.stored_dtype(kernel))
    # Row of the table times clusters plus column, in the kernel's layout.
    self.assignments = variable('assignments', kernel.shape, tf.int32)

  def _by_channel(self, kernel: np.ndarray) -> np.ndarray:
    """Returns [weights of a row of the table, rows]."""
    return kernel.reshape(-1, self._num_rows(kernel.shape))

  def _num_rows(self, shape) -> int:
    if not self._per_channel:
      return 1
    return shape[-2] * shape[-1] if self._depthwise else shape[-1]

  def __call__(self, kernel: tf.Tensor, training: bool) -> tf.Tensor:
    return kernel

  def start(self, kernel: tf.Variable) -> None:
    """Finds the clusters of a kernel and sets its weights to the centroids."""
    columns = self._by_channel(kernel.numpy()).T
    found = [
        centroids.cluster(column, self.number_of_clusters, self._initializer,
                          self._preserve_sparsity) for column in columns]
    self.centroids.assign(np.stack([values for values, _ in found]))
    indices = np.stack([row * self.number_of_clusters + index
                        for row, (_, index) in enumerate(found)], axis=-1)
    self.assignments.assign(indices.reshape(kernel.shape))
    kernel.assign(self._look_up(self.centroids))

  def _look_up(self, table: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.reshape(table, [-1]), self.assignments)

  def apply(self, kernel: tf.Variable) -> None:
    """Sets every weight to the mean of its cluster."""
    table = self._averages(kernel, tf.convert_to_tensor(self.centroids))
    self.centroids.assign(table, read_value=False)
    kernel.assign(self._look_up(table), read_value=False)

  def apply_to_copy(self, copy: tf.Variable) -> None:
    # The copy has other centroids, which are not kept: any member of a
    # cluster is as near to its mean as they would be.
    members = tf.math.unsorted_segment_max(
        tf.reshape(copy, [-1]), tf.reshape(self.assignments, [-1]),
        int(np.prod(self.centroids.shape)))
    members = tf.reshape(members, self.centroids.shape)
    copy.assign(self._look_up(self._averages(copy, members)), read_value=False)

  def _averages(self, kernel: tf.Variable, near: tf.Tensor) -> tf.Tensor:
    """Returns the mean of every cluster; an empty one keeps its centroid.

    A sum of weights would swallow what an optimizer adds to them: next to
    10,000 weights of 0.1, float32 has no room for 1e-6. The sum of what they
    differ by has, and is 0 where no weight has moved.

    Args:
      kernel: The variable.
      near: A value near every mean, of the centroids' shape.
    """
    moved = self._sums(kernel - self._look_up(near))
    counts = self._sums(tf.ones(kernel.shape, near.dtype))
    table = near + tf.math.divide_no_nan(moved, counts)
    kept = counts == 0
    if self._preserve_sparsity:
      kept |= self.centroids == 0
    return tf.where(kept, self.centroids, table)

  def _sums(self, values: tf.Tensor) -> tf.Tensor:
    """Returns the sum of every cluster, of the centroids' shape.

    Clusters of a whole kernel are summed by output channel first, as the error
    of a float32 sum grows with the number of its terms.
    """
    shape = self.centroids.shape
    size = int(np.prod(shape))
    lanes = 1 if self._per_channel else values.shape[-1]
    lane = tf.range(lanes) * size
    indices = tf.reshape(self.assignments, [-1, lanes]) + lane
    sums = tf.math.unsorted_segment_sum(
        tf.reshape(values, [-1, lanes]), indices, lanes * size)
    return tf.reshape(
        tf.reduce_sum(tf.reshape(sums, [lanes, size]), axis=0), shape)

  def planned(self) -> dict[str, Any]:
    return {'clusters': self.number_of_clusters}

  def summaries(self, kernel: tf.Tensor) -> dict[str, float]:
    return {'distinct': float(self._distinct(kernel))}

  def _distinct(self, kernel: tf.Tensor) -> int:
    """Returns the largest number of distinct values in a row of the table."""
    return max(len(np.unique(column))
               for column in self._by_channel(np.asarray(kernel)).T)

  def check(self, kernel: tf.Tensor) -> list[str]:
    found = []
    distinct = self._distinct(kernel)
    if distinct > self.number_of_clusters:
      found.append(f'{distinct} distinct values, more than '
                   f'{self.number_of_clusters} clusters')
    if not np.array_equal(kernel, self._look_up(self.centroids)):
      found.append('the values are not those of the table')
    return found
