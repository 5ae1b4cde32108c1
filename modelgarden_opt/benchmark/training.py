"""Time of training steps, taken in turn so that drift hits all models alike."""

from collections.abc import Mapping
import time
from typing import Any

import numpy as np
from official.core import base_task
import tensorflow as tf
import tf_keras


def step_ratios(
    task: base_task.Task,
    models: Mapping[str, tf_keras.Model],
    batch: Any,
    rounds: int = 10,
) -> dict[str, float]:
  """Returns the time of a training step of every model by that of the first.

  The median over rounds; a round takes one step of every model. Tracing is not
  counted.

  Args:
    task: Takes the steps, with plain gradient descent.
    models: The models by name.
    batch: One batch, as the task's data sets yield it.
    rounds: Number of rounds.
  """
  functions = []
  for model in models.values():
    optimizer = tf_keras.optimizers.SGD(1e-4)
    function = tf.function(
        lambda batch, model=model, optimizer=optimizer: task.train_step(
            batch, model, optimizer)[task.loss])
    function(batch)
    functions.append(function)
  times = np.zeros([rounds, len(functions)])
  for turn in range(rounds):
    order = range(len(functions))
    for index in order if turn % 2 == 0 else reversed(order):
      start = time.perf_counter()
      functions[index](batch).numpy()
      times[turn, index] = time.perf_counter() - start
  return dict(zip(models, np.median(times / times[:, :1], axis=0).tolist()))
