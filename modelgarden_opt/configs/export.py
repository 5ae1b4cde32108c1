"""The `export:` block of a task."""

import dataclasses

from official.modeling import hyperparams

LOWERINGS = ('decomposed', 'fused')


@dataclasses.dataclass
class Export(hyperparams.Config):
  """How a trained model is written as a file.

  Attributes:
    hard_swish: `decomposed` writes hard-swish as add, relu6 and two products,
      which XNNPACK runs; `fused` leaves the int8 HARD_SWISH op to runtimes
      that prefer it. For quantization-aware models.
  """
  hard_swish: str = 'decomposed'

  def problems(self) -> list[str]:
    """Returns one line for every value that breaks a rule."""
    if self.hard_swish in LOWERINGS:
      return []
    return [f'hard_swish: must be one of {", ".join(LOWERINGS)}, received '
            f'{self.hard_swish!r}']
