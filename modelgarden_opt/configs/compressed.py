"""Fields that every task has: an optional block for each technique."""

import dataclasses

from official.modeling import hyperparams

from modelgarden_opt import techniques
from modelgarden_opt.configs import distillation as distillation_cfg
from modelgarden_opt.configs.schema import fields

# One field for every technique, None where it is off.
_Blocks = dataclasses.make_dataclass(
    '_Blocks',
    [(name, techniques.load(technique.block) | None, None)
     for name, technique in techniques.TECHNIQUES.items()],
    bases=(hyperparams.Config,))


@dataclasses.dataclass
class CompressedTask(_Blocks):
  """What is done to the float model.

  Attributes:
    pruning: Pruning, or None for dense kernels.
    clustering: Weight clustering, or None for independent weights.
    quantization: Quantization-aware training, or None for float.
    distillation: A teacher beside the labels, or None for labels only.
    data: Directory that `data import` wrote, or an embedded data set, in place
      of the inputs of all splits. What follows from it is written into the
      other fields (inputs, classes, decoder, sizes); those that a YAML file
      sets win.
    class_names: Names of the classes, for label maps and messages.
    batch_norm_steps: Batches of training data from which the statistics of
      batch normalization are estimated after the last training step; 0 keeps
      their moving averages.
    imports: Modules that are imported before anything is built: they register
      backbones, schedules, costs, recipes. Importing runs them, so the flag
      `--import`, which adds to them, has to name each of them. A run directory
      keeps what was named.
  """
  distillation: distillation_cfg.Distillation | None = None
  data: str = ''
  class_names: list[str] = dataclasses.field(default_factory=list)
  batch_norm_steps: int = fields.field(0, range='>= 0', unit='batches')
  imports: list[str] = dataclasses.field(default_factory=list)

  def without_techniques(self) -> 'CompressedTask':
    """Returns the configuration of the float model, not pretrained."""
    return self.replace(
        init_checkpoint=None, distillation=None,
        **dict.fromkeys(techniques.TECHNIQUES))
