"""Image classification with optional compression."""

from official.core import task_factory
from official.vision.tasks import image_classification
import tensorflow as tf
import tf_keras

from modelgarden_opt.configs import image_classification as cfg
from modelgarden_opt.data import inputs
from modelgarden_opt.data import labels
from modelgarden_opt.modeling import keras_models
from modelgarden_opt.tasks import compressed


@task_factory.register_task_cls(cfg.ImageClassificationTask)
class ImageClassificationTask(
    compressed.CompressedTask, image_classification.ImageClassificationTask):
  """The Model Garden's task; every technique is an optional block of it."""

  def build_float_model(self) -> tf_keras.Model:
    if self.task_config.model.backbone.type != 'keras':
      return super().build_float_model()
    return keras_models.build_classifier(
        self.task_config, self.logging_dir if self.begun else '')

  def build_inputs(
      self,
      params: cfg.DataConfig,
      input_context: tf.distribute.InputContext | None = None,
  ) -> tf.data.Dataset:
    """Returns batches of one split whose labels are checked, see `labels`."""
    config = self.task_config
    rule = labels.Rule(
        config.model.num_classes, config.train_data.label_field_key,
        multiple=config.train_data.is_multilabel)
    field = labels.field_of(config, params)
    if field is None:  # A sample of a split, which is checked itself.
      return super().build_inputs(params, input_context)
    labels.check_files(params, rule, field)
    return labels.checked(
        super().build_inputs(params, input_context), rule, field)

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
