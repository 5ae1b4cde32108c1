"""Image classification with optional compression."""

from official.core import task_factory
from official.vision.tasks import image_classification
import tensorflow as tf

from modelgarden_opt.configs import image_classification as cfg
from modelgarden_opt.data import inputs
from modelgarden_opt.tasks import compressed


@task_factory.register_task_cls(cfg.ImageClassificationTask)
class ImageClassificationTask(
    compressed.CompressedTask, image_classification.ImageClassificationTask):
  """The Model Garden's task; every technique is an optional block of it."""

  def build_inputs(
      self,
      params: cfg.DataConfig,
      input_context: tf.distribute.InputContext | None = None,
  ) -> tf.data.Dataset:
    """Returns batches of (images [b, h, w, 3], labels [b]) of one split."""
    dataset = super().build_inputs(params, input_context)
    if params.is_training and getattr(params, 'random_affine', None):
      dataset = inputs.augment(dataset, params.random_affine, params.seed)
      dataset = dataset.prefetch(tf.data.AUTOTUNE)
    return dataset
