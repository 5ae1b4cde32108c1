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
    rule = labels.rule_of(self.task_config)
    field = labels.field_of(self.task_config, params)
    if rule is None or field is None:  # A sample is of a split that is checked.
      return super().build_inputs(params, input_context)
    labels.check_files(params, rule, field)
    return labels.checked(
        super().build_inputs(params, input_context), rule, field)
