"""Batch-norm statistics of the last weights, and a hint where they lag."""

from collections.abc import Callable
from typing import Any

from absl import logging
from official.core import base_trainer
from official.core import config_definitions as cfg
from official.modeling import optimization
import tf_keras

from modelgarden_opt import techniques
from modelgarden_opt.compression import internals

# Share of the initial statistics from which a run is warned about them.
_MAX_INITIAL = 0.05


class BatchNormAction:
  """Orbit action that estimates batch normalization after the last step."""

  def __init__(
      self,
      trainer: base_trainer.Trainer,
      train_steps: int,
      reestimate: Callable[[], None],
  ):
    """Initializes the action.

    Args:
      trainer: Holds the weights, their moving averages and the step.
      train_steps: The step at which training ends.
      reestimate: Sets the statistics of the weights that the model holds.
    """
    self._trainer = trainer
    self._train_steps = train_steps
    self._reestimate = reestimate

  def __call__(self, output=None) -> None:
    """Estimates once; a run that resumes at its end has done so."""
    if output is None or self._trainer.global_step.numpy() < self._train_steps:
      return
    optimizer = self._trainer.optimizer
    averaged = isinstance(optimizer, optimization.ExponentialMovingAverage)
    # What is evaluated and exported are the moving averages of the weights.
    if averaged:
      optimizer.swap_weights()
    self._reestimate()
    if averaged:
      optimizer.swap_weights()

  def steps_until_next(self, step: int) -> int | None:
    """Returns None: training ends at the step in question anyway."""
    del step


def num_batches(config: Any) -> int:
  """Returns from how many batches statistics are estimated at the end.

  Args:
    config: The configuration of a task.
  """
  blocks = techniques.blocks_of(config)
  own = getattr(blocks.get('quantization'), 'batch_norm_steps', 0)
  return max(config.batch_norm_steps, own)


def warn_of_momentum(
    params: cfg.ExperimentConfig, pretrained: bool, model: tf_keras.Model
) -> None:
  """Logs a warning if a run is too short for its batch-norm momentum.

  Moving averages begin at mean 0 and variance 1. After n steps with momentum m
  the share m**n of that is left, and inference is wrong although
  training went well.

  Args:
    params: The resolved configuration.
    pretrained: Whether the statistics come from a checkpoint.
    model: The model before its first step.
  """
  steps = params.trainer.train_steps
  field = 'task.model.norm_activation.norm_momentum'
  momentum = params.task.model.norm_activation.norm_momentum
  if params.task.model.backbone.type == 'keras':
    field = 'momentum of the BatchNormalization layers'
    norms = [layer for layer in internals.layers_of(model) if isinstance(
        layer, tf_keras.layers.BatchNormalization)]
    momentum = max((norm.momentum for norm in norms), default=0.0)
    # The builder or the file may have brought statistics with it.
    pretrained |= any(norm.moving_mean.numpy().any() for norm in norms)
  left = momentum**steps
  if pretrained or num_batches(params.task) or left <= _MAX_INITIAL:
    return
  fitting = _MAX_INITIAL**(1.0 / steps)
  logging.warning(
      '%s: with %g, %.0f %% of the '
      'initial batch-norm statistics are left after %d steps, and evaluation '
      'will be worse than training. Use at most %.3g, or estimate them at the '
      'end: task.batch_norm_steps: 16.', field, momentum, 100 * left, steps,
      fitting)
