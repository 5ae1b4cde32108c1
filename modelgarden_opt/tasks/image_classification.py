"""Image classification with optional compression."""

from official.core import task_factory
from official.vision.tasks import image_classification
import tensorflow as tf
import tf_keras

from modelgarden_opt.configs import image_classification as cfg
from modelgarden_opt.data import inputs
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling import keras_models
from modelgarden_opt.tasks import compressed


@task_factory.register_task_cls(cfg.ImageClassificationTask)
class ImageClassificationTask(
    compressed.CompressedTask, image_classification.ImageClassificationTask):
  """The Model Garden's task; every technique is an optional block of it."""

  def build_float_model(self) -> tf_keras.Model:
    model = self._build_model_with_own_padding()
    if self.task_config.model.padding == 'symmetric':
      return factory.with_symmetric_padding(model)
    return model

  def _build_model_with_own_padding(self) -> tf_keras.Model:
    """Returns the float model with the padding of its layers."""
    if self.task_config.model.backbone.type != 'keras':
      return super().build_float_model()
    return keras_models.build_classifier(
        self.task_config, self.logging_dir if self.begun else '')

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
