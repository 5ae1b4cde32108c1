"""The `clustering:` block of a task."""

from collections.abc import Sequence
import dataclasses

from official.modeling import hyperparams

from modelgarden_opt.configs import block
from modelgarden_opt.configs.schema import fields

# In place of an initialization: the values that a clustered kernel has.
PRESERVE = 'PRESERVE'
INITIALIZATIONS = (
    'LINEAR', 'RANDOM', 'DENSITY_BASED', 'KMEANS_PLUS_PLUS', PRESERVE)
_NUMBERS = {'range': '2 to 256'}


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
  number_of_clusters: int | None = fields.field(None, **_NUMBERS)
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
  number_of_clusters: int = fields.field(16, **_NUMBERS)
  cluster_centroids_init: str = fields.field(
      'KMEANS_PLUS_PLUS', choices=INITIALIZATIONS)
  cluster_per_channel: bool = False
  preserve_sparsity: bool = False
  rules: list[ClusteringRule] = dataclasses.field(default_factory=list)

  @classmethod
  def beside(cls, techniques: Sequence[str]) -> 'Clustering':
    preserved = ({'cluster_centroids_init': PRESERVE}
                 if len(techniques) > 1 else {})
    return cls(preserve_sparsity='pruning' in techniques, **preserved)
