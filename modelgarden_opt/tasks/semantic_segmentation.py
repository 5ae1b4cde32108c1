"""Semantic segmentation with optional compression."""

from official.core import task_factory
from official.vision.tasks import semantic_segmentation

from modelgarden_opt.configs import semantic_segmentation as cfg
from modelgarden_opt.data import labels
from modelgarden_opt.tasks import compressed


@task_factory.register_task_cls(cfg.SemanticSegmentationTask)
class SemanticSegmentationTask(
    compressed.CompressedTask,
    semantic_segmentation.SemanticSegmentationTask):
  """The Model Garden's task; every technique is an optional block of it."""

  def label_rule(self) -> labels.Rule | None:
    config = self.task_config
    if config.losses.gt_is_matting_map:  # Shares of a pixel, no classes.
      return None
    return labels.Rule(
        config.model.num_classes, 'image/segmentation/class/encoded',
        ignored=tuple({255, config.losses.ignore_label}), of_pixels=True)
