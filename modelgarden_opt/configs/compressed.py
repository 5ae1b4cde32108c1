"""Fields that every task has: an optional block for each technique."""

import dataclasses

from official.modeling import hyperparams

from modelgarden_opt.configs import clustering as clustering_cfg
from modelgarden_opt.configs import pruning as pruning_cfg
from modelgarden_opt.configs import quantization as quantization_cfg

# The blocks, in the order in which a kernel passes their transforms.
BLOCKS = ('pruning', 'clustering', 'quantization')


@dataclasses.dataclass
class CompressedTask(hyperparams.Config):
  """What is done to the float model.

  Attributes:
    quantization: Quantization-aware training, or None for float.
    pruning: Pruning, or None for dense kernels.
    clustering: Weight clustering, or None for independent weights.
    batch_norm_steps: Batches of training data from which the statistics of
      batch normalization are estimated after the last training step; 0 keeps
      their moving averages.
  """
  quantization: quantization_cfg.Quantization | None = None
  pruning: pruning_cfg.Pruning | None = None
  clustering: clustering_cfg.Clustering | None = None
  batch_norm_steps: int = 0

  def without_techniques(self) -> 'CompressedTask':
    """Returns the configuration of the float model, not pretrained."""
    return self.replace(init_checkpoint=None, **dict.fromkeys(BLOCKS))
