"""What the tasks have in common: every technique is an optional block."""

import tensorflow as tf
import tf_keras

from modelgarden_opt.data import inputs
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import checkpoints
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling import masks


class CompressedTask:
  """Mixin: compresses the model that an `official.vision` task builds."""

  def build_model(self) -> tf_keras.Model:
    """Returns the float model, compressed as the blocks say."""
    config = self.task_config
    return factory.compress(
        super().build_model(), config.quantization, config.pruning)

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
    for name in ('pruning', 'quantization'):
      block = getattr(config, name)
      if block is not None and block.pretrained_original_checkpoint:
        checkpoints.load_checkpoint(
            model, block.pretrained_original_checkpoint,
            field=f'task.{name}.pretrained_original_checkpoint')
    quantization = config.quantization
    if quantization is not None and quantization.calibration_steps:
      data = self.build_inputs(inputs.for_calibration(config.train_data))
      calibration.calibrate(model, data.take(quantization.calibration_steps))

  def train_step(self, inputs, model, optimizer, metrics=None):
    """Takes one training step; pruned weights are zero behind it."""
    logs = super().train_step(inputs, model, optimizer, metrics)
    masks.apply(masks.masked_kernels(model), optimizer)
    return logs

  def build_inputs(
      self,
      params,
      input_context: tf.distribute.InputContext | None = None,
  ) -> tf.data.Dataset:
    """Returns batches of (images [b, h, w, 3], labels) of one split."""
    return super().build_inputs(inputs.resolve(params), input_context)
