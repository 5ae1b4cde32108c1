"""A loss that is not a number: the run stops, or goes back and goes on."""

from collections.abc import Callable
from collections.abc import Mapping
import os
from typing import Any

from absl import logging
from official.core import config_definitions as cfg
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.modeling.state import whole
from modelgarden_opt.training import nan_search
from modelgarden_opt.training import portions

_REMEDIES = (
    'lower the learning rate, warm it up (trainer.optimizer_config.warmup) or '
    'clip gradients (global_clipnorm of the optimizer)')


class RolledBack(Exception):
  """The weights are those of the last checkpoint again."""


class NanAction:
  """Orbit action that looks at the loss of every loop, before other actions.

  The weights are looked at before they are saved, so no checkpoint holds one
  that is not a number. What is wrong is searched for only after it was seen.
  """

  def __init__(
      self,
      trainer: portions.Trainer,
      params: cfg.ExperimentConfig,
      manager: tf.train.CheckpointManager,
      rewind: Callable[[int], None],
  ):
    """Initializes the action.

    Args:
      trainer: Holds weights, step and the loss of the last loop.
      params: The resolved configuration.
      manager: Holds the checkpoint that a run goes back to.
      rewind: Makes the records of the run end at a step.
    """
    self._trainer, self._manager = trainer, manager
    self._rewind = rewind
    config = params.trainer
    self._bound = config.loss_upper_bound
    self._first = config.recovery_begin_steps
    # The Model Garden's field is another name of the limit; -1 ignores all.
    self._off = config.recovery_max_trials < 0 and config.on_nan == 'stop'
    self._left = max(config.recovery_max_trials, (
        config.max_rollbacks if config.on_nan == 'rollback' else 0))

  def __call__(self, output: Mapping[str, Any]) -> None:
    """Looks at the loss of a loop of steps.

    Raises:
      Failure: If it is not a number, or too large, and the run stops.
      RolledBack: If the run goes on from its last checkpoint.
    """
    if self._off:
      return
    loss, step = float(output['training_loss']), self._step
    if not loss - loss == 0:  # It is infinite or not a number.
      first = self._trainer.first_lost_step()
      self._lost(f'the loss of step {first} is not a finite number', output,
                 first)
    elif loss > self._bound and step >= self._first:
      self._lost(f'the loss at step {step} is {loss:.4g}, more than '
                 f'trainer.loss_upper_bound {self._bound:g}', output, None)

  def before_saving(self) -> None:
    """Looks at the weights.

    Raises:
      Failure: If one is not a number, and the run stops.
      RolledBack: If the run goes on from its last checkpoint.
    """
    if not self._off and not self._are_finite():
      self._lost(f'after step {self._step} weights are not finite numbers', {},
                 self._step + 1)

  @property
  def _step(self) -> int:
    return int(self._trainer.global_step.numpy())

  def _are_finite(self) -> bool:
    return bool(_all_finite(
        [v.read_value() for v in self._trainer.model.trainable_variables
         if v.dtype.is_floating]))

  def _lost(
      self, what: str, output: Mapping[str, Any], first: int | None) -> None:
    """Says what is known, and stops or goes back."""
    facts = [what, *self._facts(output)]
    checkpoint = self._manager.latest_checkpoint
    if first is not None and checkpoint and not (
        self._trainer.in_several_processes):
      facts.append(nan_search.describe(
          self._trainer, checkpoint, first))
    elif first is not None:
      facts.append(nan_search.of_weights(self._trainer.model))
    kept = (f'the last good checkpoint is {checkpoint!r}' if checkpoint else
            'there is no checkpoint yet')
    message = '; '.join(fact for fact in facts if fact)
    if not self._left or not checkpoint:
      raise errors.Failure(f'{message}. {kept}; {_REMEDIES}')
    self._left -= 1
    nan_search.restore(self._trainer, checkpoint)
    self._rewind(whole.step(checkpoint))
    logging.warning(
        '%s. Training goes on from step %d (%s) with the data that come next; '
        'of trainer.max_rollbacks, %d are left.', message,
        whole.step(checkpoint), os.path.basename(checkpoint), self._left)
    raise RolledBack

  def _facts(self, output: Mapping[str, Any]) -> list[str]:
    found = []
    if 'learning_rate' in output:
      found.append(f'learning rate {float(output["learning_rate"]):.4g}')
    optimizer = self._trainer.optimizer
    if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
      found.append(f'loss scale {float(optimizer.loss_scale):g}')
    return found


@tf.function(reduce_retracing=True)
def _all_finite(values: list[tf.Tensor]) -> tf.Tensor:
  # A sum is finite if all elements are, but for an overflow, which counts too.
  return tf.reduce_all(tf.math.is_finite(
      [tf.reduce_sum(tf.cast(value, tf.float32)) for value in values]))
