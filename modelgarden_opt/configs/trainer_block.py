"""The `trainer:` block of an experiment."""

import dataclasses

from official.core import config_definitions as official_cfg

from modelgarden_opt.configs.schema import fields


@dataclasses.dataclass
class Trainer(official_cfg.TrainerConfig):
  """The Model Garden's trainer, and what it does about a loss that is lost.

  Attributes:
    on_nan: What happens when the loss or a weight is not a number, or the loss
      exceeds `loss_upper_bound`. `stop` ends the run; its last checkpoint is of
      before. `rollback` goes on from that one with the data that come next.
    max_rollbacks: How often a run goes back before it stops.
  """
  on_nan: str = fields.field('stop', choices=('stop', 'rollback'))
  max_rollbacks: int = fields.field(3, range='>= 0')
