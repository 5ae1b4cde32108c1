"""Clustering as a technique: parameters and rules to cluster tables by path."""

from collections.abc import Iterable

from modelgarden_opt.compression import kernels
from modelgarden_opt.compression import rules as rules_lib
from modelgarden_opt.compression.clustering import table
from modelgarden_opt.configs import clustering as clustering_cfg


class Clustering:
  """Makes the cluster tables of one model."""

  name = 'clustering'

  def __init__(
      self,
      rules: Iterable[rules_lib.Rule] = (),
      *,
      number_of_clusters: int = 16,
      cluster_centroids_init: str = 'KMEANS_PLUS_PLUS',
      cluster_per_channel: bool = False,
      preserve_sparsity: bool = False,
  ):
    """Initializes the technique.

    Args:
      rules: Overrides of the numbers and of `enabled` by path or layer type.
        Depthwise kernels have clusters only where a rule enables them, as
        TFMOT leaves them alone.
      number_of_clusters: 2 to 256.
      cluster_centroids_init: Key of `centroids.INITIALIZERS`, or `PRESERVE`.
      cluster_per_channel: Whether every output channel has separate clusters.
      preserve_sparsity: Whether zeros stay zeros.
    """
    self._rules = rules_lib.Rules(
        rules, enabled=None, number_of_clusters=number_of_clusters,
        cluster_per_channel=cluster_per_channel)
    self._initializer = cluster_centroids_init
    self._preserve_sparsity = preserve_sparsity
    self._num_clustered = 0

  def transform(self, kernel: kernels.Kernel) -> table.ClusterTable | None:
    """Returns the table of a kernel, None to leave it alone."""
    layer_type = kernel.layer_type
    parameters = self._rules.resolve(kernel.path, layer_type)
    enabled = parameters['enabled']
    if enabled is None:
      enabled = layer_type != 'DepthwiseConv2D'
    if not enabled:
      return None
    self._num_clustered += 1
    return table.ClusterTable(
        parameters['number_of_clusters'], self._initializer,
        # One scale serves a dense head's integers, so one table does as well.
        parameters['cluster_per_channel'] and layer_type != 'Dense',
        self._preserve_sparsity)

  def enabled(self, path: str, layer_type: str) -> bool:
    """Whether no rule leaves the layer at `path` alone."""
    return self._rules.resolve(path, layer_type)['enabled'] is not False

  def assert_all_rules_matched(self) -> None:
    """Raises `ValueError` if a rule matched no layer or nothing has clusters.
    """
    self._rules.assert_all_matched()
    if not self._num_clustered:
      raise ValueError('no kernel is clustered: the rules leave all alone')


def make(config: clustering_cfg.Clustering) -> Clustering:
  """Returns the technique that a `clustering:` block describes."""
  return Clustering(
      rules_lib.from_configs(config.rules),
      number_of_clusters=config.number_of_clusters,
      cluster_centroids_init=config.cluster_centroids_init,
      cluster_per_channel=config.cluster_per_channel,
      preserve_sparsity=config.preserve_sparsity)
