"""Several `.tflite` files on the same images, in processes of their own.

So a file that crashes or never ends is one message, and neither the decoding of
the next images nor the Keras model waits for Python's lock. Images are handed
over in shared memory.
"""

from collections.abc import Sequence
import os
import tempfile

import numpy as np

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import isolated
from modelgarden_opt.evaluation import file_worker

# Batches that may be in work at a time: one runs, the next one waits.
_SLOTS = 2


class Workers:
  """Processes that each run all files on their share of a batch.

  Every one has its own interpreter of every file, with one thread: files
  scale better over images than over threads.
  """

  def __init__(
      self,
      paths: Sequence[str],
      expected: file_worker.Expected,
      num_workers: int | None = None,
      time_limit: float | None = None,
  ):
    """Loads the files.

    Args:
      paths: The files.
      expected: What they have to take and to compute.
      num_workers: At least 1; None for all cores.
      time_limit: Seconds that a file may take to load, and on a batch.

    Raises:
      UsageError: If a file is missing, cannot be loaded or does not fit.
      Failure: If loading does not end in time.
    """
    self._paths = list(paths)
    self._processes: list[isolated.Object] = []
    self._slot = self._slot_bytes = self._base = 0
    self._file = _anonymous_file()
    self._shared = file_worker.SharedImages(self._file)
    try:
      for _ in range((num_workers or os.cpu_count()) if paths else 0):
        self._processes.append(isolated.Object(
            'modelgarden_opt.evaluation.file_worker:FileWorker', self._file,
            name='the files', time_limit=time_limit, keep=(self._file,)))
      self._load(expected)
    except BaseException:
      self.close()
      raise

  def _load(self, expected: file_worker.Expected) -> None:
    for path in self._paths:
      with files.local(path) as there:
        for process in self._processes:
          process.name = repr(path)
          process.start('load', path, expected, there)
        for process in self._processes:
          try:
            process.result()
          except isolated.Crashed as e:
            raise errors.UsageError(
                f'tflite: {path!r} cannot be loaded: {e}') from None

  def __enter__(self) -> 'Workers':
    return self

  def __exit__(self, *unused_error) -> None:
    self.close()

  def close(self) -> None:
    """Ends the processes."""
    for process in self._processes:
      process.close()
    os.close(self._file)

  def start(self, images: np.ndarray) -> 'Pending':
    """Starts all files on a batch. Of three batches the first has to be done.

    Args:
      images: float32 array [n, h, w, c], preprocessed; n >= 1.
    """
    if not self._processes:
      return Pending([])
    offset = self._write(images)
    cuts = np.linspace(0, len(images), len(self._processes) + 1).astype(int)
    shares = [(process, int(start), int(stop)) for process, start, stop in zip(
        self._processes, cuts, cuts[1:]) if start < stop]
    for path in self._paths:
      for process, start, stop in shares:
        process.start('run', path, offset, images.shape, start, stop)
    return Pending([(path, process) for path in self._paths
                    for process, _, _ in shares])

  def _write(self, images: np.ndarray) -> int:
    """Copies a batch to where the processes read it; returns where it begins.
    """
    if images.nbytes > self._slot_bytes:
      # Larger than those before, which may still be read: it goes after them.
      self._base += _SLOTS * self._slot_bytes
      self._slot_bytes = images.nbytes
      os.ftruncate(self._file, self._base + _SLOTS * self._slot_bytes)
    self._slot = (self._slot + 1) % _SLOTS
    offset = self._base + self._slot * self._slot_bytes
    self._shared.view(offset, images.shape)[:] = images
    return offset

  def seconds(self) -> tuple[float, float]:
    """Returns how long files have run, as the mean of the processes.

    Returns:
      In all, and inside of the interpreter.
    """
    if not self._processes:
      return 0.0, 0.0
    found = [process.call('seconds') for process in self._processes]
    return tuple(np.mean(found, axis=0).tolist())


class Pending:
  """A batch that files are running on."""

  def __init__(self, calls: Sequence[tuple[str, isolated.Object]]):
    """Keeps the calls, path by path, in their order."""
    self._calls = calls

  def outputs(self) -> dict[str, np.ndarray]:
    """Waits for the outputs [n, ...] of every file, by path.

    Raises:
      Failure: If a file crashes or does not end in time.
    """
    found: dict[str, list[np.ndarray]] = {}
    for path, process in self._calls:
      process.name = repr(path)
      found.setdefault(path, []).append(process.result())
    return {path: np.concatenate(shares) for path, shares in found.items()}


def _anonymous_file() -> int:
  """Returns the descriptor of memory that has no name and ends with us."""
  if hasattr(os, 'memfd_create'):
    return os.memfd_create('images')
  with tempfile.TemporaryFile() as f:
    return os.dup(f.fileno())
