"""Orbit's controller with intervals that hold after every interruption."""

from collections.abc import Callable

import orbit

from modelgarden_opt import errors
from modelgarden_opt import stopping
from modelgarden_opt.training import nan_action


class Controller(orbit.Controller):
  """Saves and evaluates at the multiples of the intervals.

  Orbit counts from the step at which a loop happened to begin. A loop that was
  cut short by an action, or a run that was resumed, would then save and
  evaluate at other steps than an uninterrupted run, and find another best
  checkpoint.
  """

  # Called before a checkpoint is saved; raises an error if it must not be.
  before_saving: Callable[[], None] = staticmethod(lambda: None)

  def train_and_evaluate(
      self,
      train_steps: int,
      eval_steps: int = -1,
      eval_interval: int | None = None,
      evaluated: Callable[[int], bool] = lambda step: False,
  ) -> orbit.runner.Output | None:
    """Trains, and evaluates at every multiple of an interval and at the end.

    Args:
      train_steps: The step at which training ends.
      eval_steps: Batches of an evaluation, -1 for all.
      eval_interval: Steps between two evaluations; None for one at the end.
      evaluated: Whether an evaluation at a step is on record. A run that was
        killed between a checkpoint and its evaluation makes up for it.

    Returns:
      The metrics of the last evaluation, None if there was nothing to do.
    """
    output = None
    interval = eval_interval or train_steps
    step = int(self.global_step.numpy())
    due = step > 0 and (step % interval == 0 or step >= train_steps)
    while True:
      if due and not evaluated(step):
        output = self.evaluate(steps=eval_steps)
      if step >= train_steps:
        break
      until = min(train_steps, step + interval - step % interval)
      try:
        super().train(steps=until, checkpoint_at_completion=(
            until == train_steps))
      except nan_action.RolledBack:
        pass
      step = int(self.global_step.numpy())
      due = step == until
    return output

  def train(self, steps: int, checkpoint_at_completion: bool = True) -> None:
    """Trains until a step, however often it goes back."""
    while True:
      try:
        super().train(steps, checkpoint_at_completion)
        return
      except nan_action.RolledBack:
        pass

  def _train_n_steps(self, num_steps: int) -> None:
    """Trains; saves a checkpoint and stops where a signal asks for it."""
    try:
      super()._train_n_steps(num_steps)
    except errors.Stopped as e:
      raise self._stopped(e.signal) from None
    if stopping.requested():
      raise self._stopped(stopping.requested())

  def evaluate(self, steps: int = -1) -> orbit.runner.Output | None:
    """Evaluates; an evaluation that a signal ends is made up for later."""
    try:
      return super().evaluate(steps)
    except errors.Stopped as e:
      self.evaluator.end_evaluation()
      if self.trainer is None:
        raise
      raise self._stopped(e.signal) from None

  def _stopped(self, signal: int) -> errors.Stopped:
    """Saves a checkpoint of steps that none was saved of.

    Not with several processes: the others do not save at the same step.
    """
    if self.trainer.in_several_processes:
      return errors.Stopped(signal)
    step = int(self.global_step.numpy())
    latest = self.checkpoint_manager.latest_checkpoint
    if step and not (latest and latest.endswith(f'-{step}')):
      self._maybe_save_checkpoint(check_interval=False)
    return errors.Stopped(
        signal, f'the checkpoint of step {step} is saved, the same command '
        'resumes' if step else 'no step was taken yet')

  def _maybe_save_checkpoint(self, check_interval: bool = True) -> bool:
    interval = self.checkpoint_manager.checkpoint_interval
    if check_interval and self.global_step.numpy() % interval:
      return False
    self.before_saving()
    return super()._maybe_save_checkpoint(check_interval=False)


def until_multiple(step: int, interval: int) -> int:
  """Returns the steps from `step` to the next multiple of an interval."""
  return interval - step % interval
