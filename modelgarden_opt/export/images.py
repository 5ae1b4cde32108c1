"""The images that files are calibrated and verified with."""

from collections.abc import Iterator
import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.data import representative
from modelgarden_opt.data import sampling
from modelgarden_opt.tasks import run_directory

# Images of so many bytes are kept for the next file.
_MOST_BYTES = 512 << 20
# What reading data that are not there, or not what they were, raises.
_UNREADABLE = (ValueError, OSError, tf.errors.OpError)


class Calibration:
  """Images to calibrate with, read only if the converter asks for them.

  Attributes:
    listing: Which images they were; None if none was asked for.
  """

  def __init__(self, run: run_directory.Run, num_images: int):
    self._run = run
    self._num_images = num_images
    self._kept: tuple[list[np.ndarray], Any] | None = None
    self.listing: dict[str, Any] | None = None

  def __call__(self) -> Iterator[np.ndarray]:
    """Returns the images [1, h, w, c]; few enough are read only once."""
    if self._kept is None:
      images = self._drawn()
      first = next(images)
      if first.nbytes * self._num_images > _MOST_BYTES:
        return itertools.chain([first], images)
      self._kept = [first, *images], self.listing
    images, self.listing = self._kept
    return iter(images)

  def _drawn(self) -> Iterator[np.ndarray]:
    task = self._run.task
    try:
      sample = sampling.sample(task.task_config, self._num_images)
    except _UNREADABLE as e:
      kept = representative.load(self._run.model_dir)
      if kept is None:
        raise _no_images(self._run, e) from e
      self.listing = {**kept.listing, 'reason': _first_line(e)}
      return iter(kept.images[:self._num_images, np.newaxis])
    self.listing = {'source': representative.TRAINING_DATA, **sample.listing()}
    return representative.images_of(sample, task, self._num_images)


def for_verification(run: run_directory.Run) -> representative.Images:
  """Returns the images of the run directory, or training images without it."""
  kept = representative.load(run.model_dir)
  if kept is not None:
    return kept
  try:
    return representative.draw(run.task)
  except _UNREADABLE as e:
    raise _no_images(run, e) from e


def _no_images(run: run_directory.Run, error: Exception) -> errors.UsageError:
  return errors.UsageError(
      f'model_dir: {run.model_dir!r} keeps no {representative.FILE_NAME} (an '
      'earlier version made the run), and the training data that would replace '
      f'it cannot be read: {_first_line(error)}. Put them back where '
      f'{run_directory.PARAMS} says they are')


def _first_line(error: Exception) -> str:
  return str(error).strip().split('\n', maxsplit=1)[0]
