"""What is analyzed: a quantized model, its checkpoint and its images."""

from collections.abc import Mapping
import dataclasses
import hashlib
from typing import Any

import numpy as np
from official.core import base_task
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.analysis import judging
from modelgarden_opt.data import inputs
from modelgarden_opt.data import representative
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.export import images as images_lib
from modelgarden_opt.export import ptq
from modelgarden_opt.tasks import quantized_twin
from modelgarden_opt.tasks import run_directory

# Preprocessed images that are kept in memory.
_MAX_BYTES = 2 << 30
_LEAST_IMAGES = 8


@dataclasses.dataclass(frozen=True)
class Subject:
  """A run whose model is quantized.

  Attributes:
    run: The run; of a float run with the calibrated twin of its model.
    twin: Whether it is that of a float run.
    calibration: Which images its ranges were calibrated on, None if its ranges
      are those of the run.
  """
  run: run_directory.Run
  twin: bool
  calibration: Mapping[str, Any] | None

  def images(self, split: str, number: int) -> tuple[np.ndarray, Any]:
    """Returns the first images of a split, and their labels.

    Args:
      split: `train`, `validation` or `test`.
      number: How many at most.

    Raises:
      UsageError: If the data cannot be read, or there are none.
    """
    return images_of(self.run.task, split, number)

  def judge(self, labels: Any) -> judging.Judge:
    """Returns what compares outputs on images with these labels."""
    return judging.make(
        self.run, labels, evaluate.make_score(self.run, 'validation'))

  def identity(self, split: str, number: int) -> dict[str, Any]:
    """Returns what results depend on, ready for JSON."""
    data = representative.data_config(self.run.task, split)
    return {
        'checkpoint': self.run.checkpoint,
        'fingerprint': _fingerprint(self.run.checkpoint),
        'weights': self.run.weights,
        'quantization': run_directory.as_plain(
            self.run.params)['task']['quantization'],
        'calibration': dict(self.calibration) if self.calibration else None,
        'split': split, 'num_images': number,
        'data': run_directory.as_plain(data), 'shards': _shards(data)}


def images_of(
    task: base_task.Task, split: str, number: int) -> tuple[np.ndarray, Any]:
  """Returns images of a task's data, see `Subject.images`."""
  found, labels, left = [], [], number
  try:
    for images, batch_labels in representative.labelled_images(task, split):
      if not found:
        left = min(left, max(_LEAST_IMAGES, _MAX_BYTES // images[:1].nbytes))
      found.append(images[:left].astype(np.float32))
      labels.append(tf.nest.map_structure(
          lambda values, count=left: values[:count], batch_labels))
      left -= len(found[-1])
      if not left:
        break
  except (OSError, tf.errors.OpError) as e:
    raise errors.UsageError(
        f'split: the {split} data cannot be read: {errors.of_op(e)}') from None
  if not found:
    raise errors.UsageError(f'split: the {split} data hold no images')
  return np.concatenate(found), judging.concatenate(labels)


def _fingerprint(checkpoint: str) -> str:
  """Returns a hash of a checkpoint's index, which has checksums of its values.
  """
  return hashlib.sha256(
      files.read_bytes(f'{checkpoint}.index')).hexdigest()[:16]


def _shards(data: inputs.DataConfig) -> list[list[Any]]:
  """Returns path, bytes and time of change of every file of a split."""
  found = []
  for path in inputs.files(data):
    stat = tf.io.gfile.stat(path)
    found.append([path, stat.length, stat.mtime_nsec])
  return found


def load(
    model_dir: str,
    checkpoint: str = 'best',
    params_override: str | None = None,
    calibration_images: int = 256,
) -> Subject:
  """Returns the quantized model of a run.

  A float run gets a twin with calibrated ranges, as in its export.

  Args:
    model_dir: The run directory.
    checkpoint: `best`, `latest` or a file prefix.
    params_override: Fields of `task.quantization` for the twin.
    calibration_images: Training images that calibrate it.

  Raises:
    UsageError: If the run cannot be read, or its model has no twin.
  """
  run = run_directory.load(model_dir, checkpoint)
  if run.params.task.quantization is not None:
    if params_override:
      raise errors.UsageError(
          f'params_override: is for float runs; {model_dir!r} is quantized')
    return Subject(run, False, None)
  twin = quantized_twin.of_run(run, params_override)
  calibration = images_lib.Calibration(run, calibration_images)
  ptq.calibrate(twin.model, twin.params.task.quantization, calibration)
  return Subject(twin, True, calibration.listing)
