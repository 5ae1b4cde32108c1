"""Fields that every task has: an optional block for each technique."""

import dataclasses

from official.modeling import hyperparams

from modelgarden_opt.configs import pruning as pruning_cfg
from modelgarden_opt.configs import quantization as quantization_cfg


@dataclasses.dataclass
class CompressedTask(hyperparams.Config):
  """What is done to the float model.

  Attributes:
    quantization: Quantization-aware training, or None for float.
    pruning: Pruning, or None for dense kernels.
  """
  quantization: quantization_cfg.Quantization | None = None
  pruning: pruning_cfg.Pruning | None = None
