"""Semantic segmentation with optional compression."""

from official.core import task_factory
from official.vision.tasks import semantic_segmentation
import tensorflow as tf

from modelgarden_opt.configs import semantic_segmentation as cfg
from modelgarden_opt.data import labels
from modelgarden_opt.tasks import compressed


@task_factory.register_task_cls(cfg.SemanticSegmentationTask)
class SemanticSegmentationTask(
    compressed.CompressedTask,
    semantic_segmentation.SemanticSegmentationTask):
  """The Model Garden's task; every technique is an optional block of it."""

  def build_inputs(
      self,
      params: cfg.DataConfig,
      input_context: tf.distribute.InputContext | None = None,
  ) -> tf.data.Dataset:
    """Returns batches of one split whose labels are checked, see `labels`."""
    config = self.task_config
    if config.losses.gt_is_matting_map:  # Shares of a pixel, no classes.
      return super().build_inputs(params, input_context)
    rule = labels.Rule(
        config.model.num_classes, 'image/segmentation/class/encoded',
        ignored=tuple({255, config.losses.ignore_label}), of_pixels=True)
    field = labels.field_of(config, params)
    if field is None:  # A sample of a split, which is checked itself.
      return super().build_inputs(params, input_context)
    labels.check_files(params, rule, field)
    return labels.checked(
        super().build_inputs(params, input_context), rule, field)
