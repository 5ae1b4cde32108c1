"""The Model Garden's trainer, in portions of steps that a signal may end."""

from collections.abc import Callable
from collections.abc import Mapping
import time
from typing import Any

import numpy as np
from official.core import base_trainer
from official.modeling import optimization
import orbit
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import stopping

# Seconds of steps after which a signal is looked for, and seconds that a loop
# may last longer than that. What ends a process grants it 30 as a rule.
_PORTION = 5.0
_REST = 10.0


class Trainer(base_trainer.Trainer):
  """The common trainer; its train step can be traced again.

  A loop of steps is run in portions of about five seconds. When a signal asks
  to stop, it ends after a portion, if its end is not near.
  """

  _seconds_per_step = 0.0
  _averaged = False
  _loop_start = 0

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    self._train_loss = _Loss('training_loss', dtype=tf.float32)
    self._finite_steps = 0

  def retrace(self) -> None:
    """Makes the next call of `train` trace the train step again."""
    self._train_loop_fn = None

  def make_slots(self) -> None:
    """Makes the variables of the optimizer; a resumed run restores them then.

    A train step would make them, too, but TensorFlow traces a function twice
    that makes variables.
    """
    make = getattr(self.optimizer, '_create_all_weights', None) or (
        self.optimizer.build)
    with self.strategy.scope():
      make(self.model.trainable_variables)

  def train(self, num_steps: tf.Tensor) -> orbit.runner.Output | None:
    """Trains for one loop of steps.

    Raises:
      Stopped: If a signal asked for it and the loop would last longer.
    """
    self.train_loop_begin()
    self._loop_start = int(self.global_step.numpy())
    if self._train_loop_fn is None:
      self.make_slots()
      self._train_loop_fn = self.create_train_loop_fn()
      self._seconds_per_step = 0.0
    if self._train_iter is None:
      self._train_iter = tf.nest.map_structure(iter, self.train_dataset)
    left = int(num_steps)
    while left:
      left -= self._take(left)
      # Before the first steps, which trace them, there is nothing to save.
      if not self.in_several_processes:
        stopping.defer()
      if stopping.requested() and self._seconds_per_step * left > _REST:
        raise errors.Stopped(stopping.requested())
    return self.train_loop_end()

  def create_train_loop_fn(self) -> Callable[[Any, tf.Tensor], None]:
    """Returns a function that takes steps, given an iterator and a number.

    A chief with parameter servers sends out single steps, so that all workers
    take part, and waits for them. The base class sends whole loops.
    """
    if not self._is_async:
      return super().create_train_loop_fn()
    step = tf.function(self.train_step)

    def loop(iterator, num_steps):
      for _ in range(int(num_steps)):
        self.coordinator_for_async().schedule(step, args=(iterator,))
      self.join()

    return loop

  def _take(self, left: int) -> int:
    """Takes the next portion of steps; returns how many they were."""
    pace = self._seconds_per_step
    # The first steps are slow, since they are traced; they say nothing.
    count = min(left, max(1, int(_PORTION / pace)) if pace else 1)
    if self.in_several_processes:  # Their loops must be the same.
      count = left
    start = time.monotonic()
    step = self.global_step.numpy()
    self._train_loop_fn(self._train_iter, tf.constant(count, tf.int32))
    count = int(self.global_step.numpy() - step)  # Waits for them.
    self._seconds_per_step = (time.monotonic() - start) / max(count, 1)
    return max(count, 1)

  @property
  def in_several_processes(self) -> bool:
    """Whether steps and checkpoints need other processes, too.

    These do not get the signal at the same step.
    """
    return self.strategy.extended._in_multi_worker_mode()  # pylint: disable=protected-access

  def repeat(self, num_steps: int) -> None:
    """Takes steps once more, as a part of no loop."""
    self._train_loop_fn(self._train_iter, tf.constant(num_steps, tf.int32))
    for metric in [*self.train_metrics, self.train_loss]:
      metric.reset_state()

  def first_lost_step(self) -> int:
    """Returns the step of the last loop from which its loss was lost."""
    return self._loop_start + self._finite_steps + 1

  def train_step(self, iterator) -> None:
    """Takes a step; XLA compiles it where `runtime.enable_xla` says so.

    The base class does so on GPUs only.
    """

    def step(inputs):
      take = self.task.train_step
      if self.config.runtime.enable_xla:
        take = tf.function(take, jit_compile=True)
      logs = take(inputs, model=self.model, optimizer=self.optimizer,
                  metrics=self.train_metrics)
      self._train_loss.update_state(logs[self.task.loss])
      self.global_step.assign_add(1)

    self.strategy.run(step, args=(self.next_train_inputs(iterator),),
                      options=self._runtime_options)

  def train_loop_end(self) -> dict[str, Any]:
    # Replicas may differ by one step, since they exchange gradients.
    self._finite_steps = int(self.train_loss.finite_steps.numpy()) // (
        self.strategy.num_replicas_in_sync)
    return _as_numbers(super().train_loop_end())

  def eval_begin(self):
    super().eval_begin()
    self._averaged = isinstance(
        self.optimizer, optimization.ExponentialMovingAverage)

  def eval_reduce(self, state=None, step_outputs=None) -> Any:
    """Adds the outputs of a batch to the state.

    Raises:
      Stopped: If a signal asked for it.
    """
    if stopping.requested() and tf.executing_eagerly():
      raise errors.Stopped(stopping.requested())
    return super().eval_reduce(state, step_outputs)

  def eval_end(self, aggregated_logs=None) -> dict[str, Any]:
    logs = _as_numbers(super().eval_end(aggregated_logs))
    self._averaged = False
    return logs

  def end_evaluation(self) -> None:
    """Gives the model its weights again after an evaluation that was ended."""
    if self._averaged:
      self.optimizer.swap_weights()
      self._averaged = False


class _Loss(tf_keras.metrics.Mean):
  """The mean loss of a loop, and of how many steps it was finite at first."""

  def __init__(self, name: str, dtype: tf.DType):
    super().__init__(name, dtype)
    self.finite_steps = self.add_weight('finite_steps', initializer='zeros')

  def update_state(self, values, sample_weight=None):
    finite = tf.reduce_all(tf.math.is_finite(values))
    so_far = tf.equal(self.finite_steps, self.count)
    counted = self.finite_steps.assign_add(
        tf.cast(finite & so_far, self.finite_steps.dtype))
    with tf.control_dependencies([counted]):
      return super().update_state(values, sample_weight)


def _as_numbers(logs: Mapping[str, Any]) -> dict[str, Any]:
  """Returns logs whose scalars are Python's, which print as numbers."""

  def convert(value):
    value = orbit.utils.get_value(value)
    return value.item() if np.ndim(value) == 0 and hasattr(
        value, 'item') else value

  return tf.nest.map_structure(convert, dict(logs))
