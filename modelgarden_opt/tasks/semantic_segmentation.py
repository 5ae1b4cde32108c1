"""Semantic segmentation with optional compression."""

from official.core import task_factory
from official.vision.tasks import semantic_segmentation

from modelgarden_opt.configs import semantic_segmentation as cfg
from modelgarden_opt.tasks import compressed


@task_factory.register_task_cls(cfg.SemanticSegmentationTask)
class SemanticSegmentationTask(
    compressed.CompressedTask,
    semantic_segmentation.SemanticSegmentationTask):
  """The Model Garden's task; every technique is an optional block of it."""
