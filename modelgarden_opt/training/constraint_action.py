"""Updates masks on schedule while a model is trained, and logs them."""

from collections.abc import Callable

from absl import logging
import orbit
import tensorflow as tf
import tf_keras

from modelgarden_opt.modeling import constraints
from modelgarden_opt.training import metrics


class ConstraintAction:
  """Orbit action that sets masks when they are due and writes what they are.

  Masks are set between two loops of steps, in Python: a training step costs
  nothing but the masking itself. Loops end where masks are due
  (`steps_until_next`).
  """

  def __init__(
      self,
      found: list[constraints.Constraint],
      global_step: tf.Variable,
      optimizer: tf_keras.optimizers.Optimizer,
      summaries: metrics.JsonlSummaryManager,
      summary_interval: int,
      finish: Callable[[], None],
  ):
    """Initializes the action.

    Args:
      found: The constraints of the model.
      global_step: The variable that counts training steps.
      optimizer: May keep moving averages of the kernels.
      summaries: Where sparsity, thresholds and histograms are written.
      summary_interval: Steps between two summaries.
      finish: Called after the last mask update.
    """
    self._found = found
    self._global_step = global_step
    self._optimizer = optimizer
    self._summaries = summaries
    self._interval = summary_interval
    self._finish = finish

  def __call__(self, output: orbit.runner.Output | None = None) -> None:
    """Sets the masks that are due; also called once before training goes on."""
    step = int(self._global_step.numpy())
    changed = constraints.update(self._found, step, self._optimizer)
    if changed:
      logging.info('Set %d pruning masks at step %d: sparsity %.2f %%.',
                   len(changed), step,
                   100 * constraints.sparsity(self._found))
      if self.steps_until_next(step) is None:
        self._finish()
    # Without output nothing was trained: a resumed run has written this step.
    if changed or (output is not None and step % self._interval == 0):
      self._write(step)

  def _write(self, step: int) -> None:
    self._summaries.write_summaries(dict(constraints.summaries(self._found)))
    with self._summaries.summary_writer().as_default():
      for item in self._found:
        tf.summary.histogram(
            f'{item.transform.technique}/weights/{item.path}', item.kernel,
            step=step)
    self._summaries.flush()

  def steps_until_next(self, step: int) -> int | None:
    """Returns the steps to the next setting of a mask, None if none is due."""
    due = [item.transform.next_update(step) for item in self._found]
    return min((s - step for s in due if s is not None), default=None)
