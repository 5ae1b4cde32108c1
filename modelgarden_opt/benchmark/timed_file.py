"""One `.tflite` file that is timed in a process of its own.

So its memory is its own, and a file that crashes or never ends is ended with
its process. This module is what runs there: it imports no TensorFlow.
"""

from collections.abc import Mapping
import gc
import resource
import sys
import time
from typing import Any

import numpy as np

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import isolated
from modelgarden_opt.evaluation import litert_loading
from modelgarden_opt.evaluation import tensors

# Times that a file is loaded; the median is its load time.
_NUM_LOADS = 3
_STATUS = '/proc/self/status'

DELEGATES = {'xnnpack': True, 'none': False}


def start(
    path: str, num_threads: int, delegate: str, seed: int, time_limit: float
) -> isolated.Object:
  """Returns a `TimedFile` in a process of its own.

  Args:
    path: The file.
    num_threads: Threads of the interpreter.
    delegate: Key of `DELEGATES`.
    seed: Seed of the random inputs.
    time_limit: Seconds that loading, and each block of runs, may take.

  Raises:
    UsageError: If the file is missing or cannot be loaded.
    Failure: If loading does not end in time.
  """
  try:
    with files.local(path) as there:
      return isolated.Object(
          f'{__name__}:TimedFile', there, num_threads, delegate, seed,
          name=repr(path), time_limit=time_limit)
  except isolated.Crashed as e:
    raise errors.UsageError(f'tflite: {path!r} cannot be loaded: {e}') from None


class TimedFile:
  """A loaded file with random inputs, and what loading it cost."""

  def __init__(self, path: str, num_threads: int, delegate: str, seed: int):
    """Loads the file; arguments as for `start`."""
    before = _memory('VmRSS')
    self._path, self._seconds, self._interpreter = path, [], None
    for _ in range(_NUM_LOADS):
      self._interpreter = None
      gc.collect()
      begin = time.perf_counter()
      self._interpreter = litert_loading.load(
          path, num_threads, DELEGATES[delegate])
      self._seconds.append(time.perf_counter() - begin)
    self._before = before
    rng = np.random.default_rng(seed)
    with litert_loading.named(path):
      for detail in self._interpreter.get_input_details():
        self._interpreter.set_tensor(
            detail['index'], tensors.random(detail, rng))
    self._first_ms = 0.0

  def warm_up(self, num_runs: int) -> None:
    """Runs the file; the time of the first run is kept."""
    with litert_loading.named(self._path):
      for number in range(num_runs):
        begin = time.perf_counter()
        self._interpreter.invoke()
        if not number:
          self._first_ms = 1e3 * (time.perf_counter() - begin)

  def block(self, num_runs: int) -> list[float]:
    """Returns milliseconds of runs, after one that is not counted."""
    invoke, clock = self._interpreter.invoke, time.perf_counter
    with litert_loading.named(self._path):
      invoke()
    found = []
    for _ in range(num_runs):
      begin = clock()
      invoke()
      found.append(1e3 * (clock() - begin))
    return found

  def costs(self) -> Mapping[str, Any]:
    """Returns `load_ms`, `first_run_ms` and `peak_memory_bytes`.

    The memory is what loading and running the file added to a process that has
    LiteRT; weights that are mapped from the file count. None where the system
    does not say.
    """
    peak = _memory('VmHWM')
    return {
        'load_ms': 1e3 * float(np.median(self._seconds)),
        'first_run_ms': self._first_ms,
        'peak_memory_bytes': None if None in (peak, self._before) else max(
            0, peak - self._before)}


def _memory(field: str) -> int | None:
  """Returns resident bytes of this process now, or at most so far."""
  try:
    with open(_STATUS, encoding='utf-8') as f:
      for line in f:
        if line.startswith(f'{field}:'):
          return 1024 * int(line.split()[1])
  except OSError:
    pass
  if sys.platform == 'darwin':
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return None
