"""The `distillation:` block of a task."""

import dataclasses

from official.modeling import hyperparams

from modelgarden_opt.configs.schema import fields


@dataclasses.dataclass
class Distillation(hyperparams.Config):
  """A trained model teaches the one that is trained.

  The loss is `(1 - weight) * L + weight * T^2 * KL(teacher || student)`, with
  the task's own loss L and softmax outputs at temperature T, plus
  `feature_weight` times the mean relative squared error of the features.
  Source: Hinton et al., arXiv:1503.02531; features: Romero et al.,
  arXiv:1412.6550.

  Attributes:
    teacher: Run directory of the teacher, whose best checkpoint is used, or a
      checkpoint of the float model that this task describes. It has to be
      there whenever training goes on, not for export or evaluation.
    temperature: What the logits of both are divided by, > 0.
    weight: Share of the teacher in the loss, 0 to 1; labels have the rest.
    features: Paths of layers, such as `backbone/inverted_bottleneck_block_3`,
      whose outputs the student shall share with the teacher.
    feature_weight: Weight of their error, >= 0.
  """
  teacher: str = ''
  temperature: float = fields.field(2.0, range='> 0')
  weight: float = fields.field(0.5, range='[0, 1]')
  features: list[str] = dataclasses.field(default_factory=list)
  feature_weight: float = fields.field(1.0, range='>= 0')
