"""Image classification with optional compression."""

from official.core import task_factory
from official.vision.tasks import image_classification
import tensorflow as tf
import tf_keras

from modelgarden_opt.configs import image_classification as cfg
from modelgarden_opt.data import inputs
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import checkpoints
from modelgarden_opt.modeling import factory


@task_factory.register_task_cls(cfg.ImageClassificationTask)
class ImageClassificationTask(image_classification.ImageClassificationTask):
  """The Model Garden's task; every technique is an optional block of it."""

  def build_model(self) -> tf_keras.Model:
    """Returns the float model, compressed as the blocks say."""
    return factory.compress(
        super().build_model(), self.task_config.quantization)

  def initialize(self, model: tf_keras.Model) -> None:
    """Loads the checkpoint that a fresh run starts from, and calibrates.

    Not called when the run directory has a checkpoint: a run that resumes, is
    evaluated or exported needs nothing but its own directory.

    Args:
      model: The model that `build_model` returned.

    Raises:
      UsageError: If the checkpoint is missing or does not fit.
    """
    config = self.task_config
    if config.init_checkpoint:
      checkpoints.load_checkpoint(
          model, config.init_checkpoint, config.init_checkpoint_modules,
          'task.init_checkpoint')
    quantization = config.quantization
    if quantization is None:
      return
    if quantization.pretrained_original_checkpoint:
      checkpoints.load_checkpoint(
          model, quantization.pretrained_original_checkpoint,
          field='task.quantization.pretrained_original_checkpoint')
    if quantization.calibration_steps:
      data = self.build_inputs(inputs.for_calibration(config.train_data))
      calibration.calibrate(model, data.take(quantization.calibration_steps))

  def build_inputs(
      self,
      params: cfg.DataConfig,
      input_context: tf.distribute.InputContext | None = None,
  ) -> tf.data.Dataset:
    """Returns batches of (images [b, h, w, 3], labels [b]) of one split."""
    dataset = super().build_inputs(inputs.resolve(params), input_context)
    if params.is_training and getattr(params, 'random_affine', None):
      dataset = inputs.augment(dataset, params.random_affine, params.seed)
      dataset = dataset.prefetch(tf.data.AUTOTUNE)
    return dataset
