"""The `export:` block of a task."""

import dataclasses

from official.modeling import hyperparams

from modelgarden_opt.configs import catalog
from modelgarden_opt.configs.schema import fields

LOWERINGS = ('decomposed', 'fused')


@dataclasses.dataclass
class Export(hyperparams.Config):
  """How a trained model is written as a file.

  Attributes:
    hard_swish: `decomposed` writes hard-swish as add, relu6 and two products,
      which XNNPACK runs; `fused` leaves the int8 HARD_SWISH op to runtimes
      that prefer it. For quantization-aware models.
  """
  hard_swish: str = fields.field('decomposed', choices=LOWERINGS)


@dataclasses.dataclass
class SegmentationExport(Export):
  """How a trained segmentation model is written as a file.

  Attributes:
    output: What the file computes: `logits` [b, h / stride, w / stride,
      classes], `resized_logits` [b, h, w, classes] (bilinear), or `labels`
      [b, h, w], the int32 class of every pixel.
  """
  output: str = fields.field(
      'logits', choices=catalog.SEGMENTATION_OUTPUTS)
