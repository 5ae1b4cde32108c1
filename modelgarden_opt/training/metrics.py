"""Metrics of a run: TensorBoard scalars and the same in `metrics.jsonl`."""

import json
import os
import time
from typing import Any

import numpy as np
from orbit import utils
import tensorflow as tf

from modelgarden_opt import files

FILE_NAME = 'metrics.jsonl'


class JsonlSummaryManager(utils.SummaryManager):
  """Writes every summary to TensorBoard and, as one line, to a JSONL file.

  A line holds `step`, `split`, `time` (seconds since the epoch) and the
  scalars. A nested dictionary becomes names with slashes.
  """

  def __init__(
      self, model_dir: str, subdir: str, split: str, global_step: tf.Variable,
      enabled: bool = True,
  ):
    """Initializes the manager; nothing is written before the first summary.

    Args:
      model_dir: The run directory.
      subdir: Directory of the event files below it.
      split: `train` or `validation`.
      global_step: The variable that counts training steps.
      enabled: Whether this process writes; of several workers one does.
    """
    super().__init__(
        os.path.join(model_dir, subdir) if enabled else None,
        tf.summary.scalar, global_step)
    self._writes = enabled
    self._path = os.path.join(model_dir, FILE_NAME)
    self._split = split
    self._step = global_step

  def write_summaries(self, summary_dict: dict[str, Any]) -> None:
    super().write_summaries(summary_dict)
    if not self._writes:
      return
    record = {'step': int(self._step.numpy()), 'split': self._split,
              'time': round(time.time(), 3), **_flatten(summary_dict)}
    with tf.io.gfile.GFile(self._path, 'a') as f:
      f.write(json.dumps(record) + '\n')


def _flatten(values: dict[str, Any], prefix: str = '') -> dict[str, float]:
  """Returns the finite scalars of a nested dictionary by path."""
  flat = {}
  for name, value in values.items():
    if isinstance(value, dict):
      flat.update(_flatten(value, f'{prefix}{name}/'))
    elif np.ndim(value) == 0 and np.isfinite(value):
      flat[prefix + name] = float(value)
  return flat


def read(model_dir: str) -> list[dict[str, Any]]:
  """Returns the records of a run in the order they were written."""
  path = os.path.join(model_dir, FILE_NAME)
  if not tf.io.gfile.exists(path):
    return []
  with tf.io.gfile.GFile(path) as f:
    return [json.loads(line) for line in f.read().splitlines() if line]


def evaluated(model_dir: str, step: int) -> bool:
  """Whether a run wrote an evaluation at a training step."""
  return any(record['step'] == step and record['split'] == 'validation'
             for record in read(model_dir))


def rewind(model_dir: str, step: int | None) -> None:
  """Drops what a killed run wrote after the checkpoint that it resumes from.

  A line that the kill cut in two goes as well.

  Args:
    model_dir: The run directory.
    step: The training step of that checkpoint; None if there is none.
  """
  path = os.path.join(model_dir, FILE_NAME)
  if not tf.io.gfile.exists(path):
    return
  with tf.io.gfile.GFile(path) as f:
    lines = f.read().splitlines()
  kept = [line for line in lines
          if step is not None and _step_of(line) <= step]
  if kept != lines:
    files.write_atomically(path, ''.join(line + '\n' for line in kept))


def _step_of(line: str) -> float:
  try:
    return json.loads(line)['step']
  except (ValueError, KeyError):
    return float('inf')
