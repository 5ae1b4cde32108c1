"""The `export:` block of a task."""

import dataclasses

from official.modeling import hyperparams

from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import checks

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
    return checks.unless_one_of('hard_swish', self.hard_swish, LOWERINGS)


@dataclasses.dataclass
class SegmentationExport(Export):
  """How a trained segmentation model is written as a file.

  Attributes:
    output: What the file computes: `logits` [b, h / stride, w / stride,
      classes], `resized_logits` [b, h, w, classes] (bilinear), or `labels`
      [b, h, w], the int32 class of every pixel.
  """
  output: str = 'logits'

  def problems(self) -> list[str]:
    return super().problems() + checks.unless_one_of(
        'output', self.output, catalog.SEGMENTATION_OUTPUTS)
