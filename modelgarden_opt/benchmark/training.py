"""Time of training steps, interleaved so that drift affects all alike."""

from collections.abc import Callable
from collections.abc import Mapping
import statistics
import time
from typing import Any

from official.core import base_task
import tensorflow as tf
import tf_keras

from modelgarden_opt import ratios


def step_ratios(
    task: base_task.Task,
    models: Mapping[str, tf_keras.Model],
    batch: Any,
    rounds: int = 10,
) -> dict[str, ratios.Ratio]:
  """Returns the ratio of every model's training step time to the first one's.

  A round takes one step of every model. Tracing is not counted.

  Args:
    task: Takes the steps, with plain gradient descent.
    models: The models by name.
    batch: One batch, as the task's data sets yield it.
    rounds: Number of rounds.
  """
  calls = {name: _step(task, model, batch) for name, model in models.items()}
  seconds = in_turn(calls, rounds)
  first = next(iter(seconds.values()))
  return {name: ratios.paired(s, first) for name, s in seconds.items()}


def _step(
    task: base_task.Task, model: tf_keras.Model, batch: Any
) -> Callable[[], Any]:
  """Returns a call that takes one training step; it is traced already."""
  optimizer = tf_keras.optimizers.SGD(1e-4)
  function = tf.function(
      lambda batch: task.train_step(batch, model, optimizer)[task.loss])
  function(batch)
  return lambda: function(batch).numpy()


def step_seconds(
    task: base_task.Task, model: tf_keras.Model, batch: Any, rounds: int
) -> float:
  """Returns the median seconds of a training step; arguments as above."""
  seconds = in_turn({'': _step(task, model, batch)}, rounds)['']
  return statistics.median(seconds)


def in_turn(
    calls: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, list[float]]:
  """Returns the seconds of interleaved calls, every other round backwards.

  Args:
    calls: What is timed, by name.
    rounds: Number of measurements of each.
  """
  seconds = {name: [] for name in calls}
  for turn in range(rounds):
    for name in calls if turn % 2 == 0 else reversed(calls):
      start = time.perf_counter()
      calls[name]()
      seconds[name].append(time.perf_counter() - start)
  return seconds
