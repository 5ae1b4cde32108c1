"""Metrics of a run: TensorBoard scalars and the same in `metrics.jsonl`."""

from collections.abc import Callable
import json
import os
import time
from typing import Any

from absl import logging
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
  """Returns the records of a run in the order they were written.

  Lines that are damaged are left out, as a kill may cut the last one.
  """
  return [record for line in _lines(model_dir)
          if (record := _record(line)) is not None]


def _lines(model_dir: str) -> list[str]:
  path = os.path.join(model_dir, FILE_NAME)
  if not files.exists(path):
    return []
  return files.read_bytes(path).decode(errors='replace').splitlines()


def _record(line: str) -> dict[str, Any] | None:
  """Returns what a line says, None if it is damaged."""
  try:
    record = json.loads(line)
  except ValueError:
    return None
  whole = isinstance(record, dict) and isinstance(
      record.get('step'), int) and 'split' in record
  return record if whole else None


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
  lines = _lines(model_dir)
  damaged = [number for number, line in enumerate(lines, 1)
             if _record(line) is None]
  if damaged and damaged != [len(lines)]:  # Not by a kill.
    logging.warning('%s: line %d and %d more are damaged and were dropped.',
                    os.path.join(model_dir, FILE_NAME), damaged[0],
                    len(damaged) - 1)
  _keep(model_dir, lambda r: step is not None and r['step'] <= step)


def forget(model_dir: str, step: int) -> None:
  """Drops the evaluation at a training step: it is made again."""
  _keep(model_dir, lambda r: (r['step'], r['split']) != (step, 'validation'))


def _keep(model_dir: str, wanted: Callable[[dict[str, Any]], bool]) -> None:
  """Drops the records that are not wanted, and what is damaged."""
  lines = _lines(model_dir)
  kept = [line for line in lines
          if (record := _record(line)) is not None and wanted(record)]
  if kept != lines:
    files.write_atomically(
        os.path.join(model_dir, FILE_NAME),
        ''.join(line + '\n' for line in kept))
