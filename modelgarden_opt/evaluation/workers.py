"""Several `.tflite` files on the same images, on all cores.

An interpreter releases Python's lock while it runs, so threads are enough.
"""

from collections.abc import Sequence
from concurrent import futures
import os

import numpy as np

from modelgarden_opt.evaluation import litert_model


class Workers:
  """Workers that each run all files on their share of a batch.

  Every worker has its own interpreter of every file, with one thread: files
  scale better over images than over threads.
  """

  def __init__(self, paths: Sequence[str], num_workers: int | None = None):
    """Loads the files.

    Args:
      paths: The files.
      num_workers: At least 1; None for all cores.

    Raises:
      UsageError: If a file is missing or cannot be loaded.
    """
    self._models = [
        {path: litert_model.Model(path, num_threads=1) for path in paths}
        for _ in range((num_workers or os.cpu_count()) if paths else 0)]
    self._pool = futures.ThreadPoolExecutor(max(len(self._models), 1))

  def __enter__(self) -> 'Workers':
    return self

  def __exit__(self, *unused_error) -> None:
    self._pool.shutdown(cancel_futures=True)

  def start(self, images: np.ndarray) -> 'Pending':
    """Starts all files on a batch.

    Args:
      images: float32 array [n, h, w, c], preprocessed; n >= 1.
    """
    shares = [share for share in np.array_split(images, len(self._models))
              if len(share)] if self._models else []
    return Pending([
        self._pool.submit(_run, models, share)
        for models, share in zip(self._models, shares)])


class Pending:
  """A batch that files are running on."""

  def __init__(self, shares: Sequence[futures.Future]):
    self._shares = shares

  def outputs(self) -> dict[str, np.ndarray]:
    """Waits for the outputs [n, ...] of every file, by path."""
    found = [share.result() for share in self._shares]
    return {path: np.concatenate([outputs[path] for outputs in found])
            for path in (found[0] if found else ())}


def _run(models, images: np.ndarray) -> dict[str, np.ndarray]:
  return {path: model(images) for path, model in models.items()}
