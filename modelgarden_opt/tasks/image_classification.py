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

  def augment(
      self,
      dataset: tf.data.Dataset,
      params: cfg.DataConfig,
      first_batch: int,
      input_context: tf.distribute.InputContext | None = None,
  ) -> tf.data.Dataset:
    if not getattr(params, 'random_affine', None):
      return dataset
    dataset = inputs.augment(
        dataset, params.random_affine, params.seed, first_batch, input_context)
    return dataset.prefetch(tf.data.AUTOTUNE)
