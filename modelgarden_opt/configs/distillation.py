"""The `distillation:` block of a task."""

import dataclasses

from official.modeling import hyperparams


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
  temperature: float = 2.0
  weight: float = 0.5
  features: list[str] = dataclasses.field(default_factory=list)
  feature_weight: float = 1.0

  def problems(self) -> list[str]:
    """Returns one line for every value that breaks a rule."""
    found = []
    if not self.teacher:
      found.append('teacher: must name a run directory or a checkpoint, '
                   f'received {self.teacher!r}')
    if not self.temperature > 0.0:
      found.append(f'temperature: must be > 0, received {self.temperature}')
    if not 0.0 <= self.weight <= 1.0:
      found.append(f'weight: must lie in [0, 1], received {self.weight}')
    if not self.feature_weight >= 0.0:
      found.append(
          f'feature_weight: must be >= 0, received {self.feature_weight}')
    if not self.weight and not (self.features and self.feature_weight):
      found.append('weight: 0 without features teaches nothing; use 0.5, or '
                   'name features')
    return found
