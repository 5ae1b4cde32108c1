"""The `clustering:` block of a task."""

from collections.abc import Sequence
import dataclasses

from official.modeling import hyperparams

from modelgarden_opt.configs import block
from modelgarden_opt.configs import checks

# In place of an initialization: the values that a clustered kernel has.
PRESERVE = 'PRESERVE'
INITIALIZATIONS = (
    'LINEAR', 'RANDOM', 'DENSITY_BASED', 'KMEANS_PLUS_PLUS', PRESERVE)
NUMBERS = range(2, 257)


@dataclasses.dataclass
class ClusteringRule(hyperparams.Config):
  """Overrides the block for some kernels; fields left out override nothing.

  Attributes:
    path: Glob over layer paths; `*` also crosses `/`.
    layer_type: Glob over class names of float layers, e.g. `DepthwiseConv2D`.
    enabled: False leaves the kernels alone; True clusters depthwise kernels,
      too.
    number_of_clusters: As in the block.
    cluster_per_channel: As in the block.
  """
  path: str = '*'
  layer_type: str = '*'
  enabled: bool | None = None
  number_of_clusters: int | None = None
  cluster_per_channel: bool | None = None


@dataclasses.dataclass
class Clustering(block.Block):
  """Weight clustering, with TFMOT's names.

  Attributes:
    number_of_clusters: Distinct weights of a kernel (of an output channel with
      `cluster_per_channel`), 2 to 256.
    cluster_centroids_init: `LINEAR`, `RANDOM`, `DENSITY_BASED`,
      `KMEANS_PLUS_PLUS`; or `PRESERVE`, which takes the values of a checkpoint
      whose kernels are clustered already.
    cluster_per_channel: Whether every output channel has separate clusters.
      Dense kernels always have one table.
    preserve_sparsity: Whether zeros stay zeros.
    rules: Overrides by path or layer type; the last match wins.
  """
  number_of_clusters: int = 16
  cluster_centroids_init: str = 'KMEANS_PLUS_PLUS'
  cluster_per_channel: bool = False
  preserve_sparsity: bool = False
  rules: list[ClusteringRule] = dataclasses.field(default_factory=list)

  @classmethod
  def beside(cls, techniques: Sequence[str]) -> 'Clustering':
    preserved = ({'cluster_centroids_init': PRESERVE}
                 if len(techniques) > 1 else {})
    return cls(preserve_sparsity='pruning' in techniques, **preserved)

  def problems(self, train_steps: int) -> list[str]:
    del train_steps
    found = checks.unless_one_of(
        'cluster_centroids_init', self.cluster_centroids_init, INITIALIZATIONS)
    least = 3 if self.preserve_sparsity else 2
    numbers = [('', self.number_of_clusters), *(
        (f'rules[{index}].', rule.number_of_clusters)
        for index, rule in enumerate(self.rules)
        if rule.number_of_clusters is not None)]
    for prefix, value in numbers:
      if not least <= value <= NUMBERS[-1]:
        found.append(f'{prefix}number_of_clusters: must lie in {least} to '
                     f'{NUMBERS[-1]}, received {value}')
    return found
