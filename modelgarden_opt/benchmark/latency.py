"""Latency of `.tflite` files, interleaved so that drift affects all alike."""

from collections.abc import Sequence
import dataclasses
import importlib.metadata
import os
import platform
from typing import Any

import numpy as np

from modelgarden_opt import isolated
from modelgarden_opt import ratios
from modelgarden_opt.benchmark import quantiles
from modelgarden_opt.benchmark import timed_file
from modelgarden_opt.evaluation import census

# Runs of a file before the next file's turn.
BLOCK = 5
NUM_WARM_UP = 5
# Seconds that a file may take to load, or for a block of runs.
TIME_LIMIT = 300.0

# Processor flags of instructions that multiply and add bytes.
_INT8_FLAGS = frozenset({
    'avx512_vnni', 'avx_vnni', 'amx_int8', 'asimddp', 'i8mm'})


@dataclasses.dataclass(frozen=True)
class Setting:
  """What a file is run with.

  Attributes:
    num_threads: Threads of the interpreter.
    delegate: Key of `timed_file.DELEGATES`.
  """
  num_threads: int = 1
  delegate: str = 'xnnpack'


def benchmark(
    paths: Sequence[str],
    num_threads: int | Sequence[int] = 1,
    num_runs: int = 100,
    seed: int = 0,
    delegates: Sequence[str] = ('xnnpack',),
    num_warm_up: int = NUM_WARM_UP,
    time_limit: float = TIME_LIMIT,
) -> dict[str, Any]:
  """Times files against each other, each in a process of its own.

  The files take turns in blocks of a few runs, each block after one run that
  is not counted, and every other round goes backwards. A change of the
  machine's clock or a noisy neighbour then affects every file. Of several
  settings, every file is timed in each of them.

  Args:
    paths: The files.
    num_threads: Threads of every interpreter, or several numbers of them.
    num_runs: Counted runs of every file, rounded up to whole blocks.
    seed: Seed of the random input.
    delegates: Keys of `timed_file.DELEGATES`.
    num_warm_up: Runs of every file before the first block.
    time_limit: Seconds that a file may take to load, or for a block of runs.

  Returns:
    `environment`, and `results` with one record a file and setting: settings
    in the order given (threads within delegates), in each the files in the
    order of `paths`. A record has milliseconds with their intervals (see
    `quantiles.record`), what loading costs (see `timed_file.TimedFile.costs`),
    sizes, `block_ms`, the medians of the blocks, which can be paired between
    files, `ratio`, its time over that of the first file in the same setting
    with its confidence interval `ratio_low` to `ratio_high`, both None for a
    single block (see `ratios.paired`; a round is a block), and of several
    settings `to_first_setting`, such a ratio to the same file in the first
    one.

  Raises:
    UsageError: If a file is missing or cannot be loaded.
    Failure: If a file crashes, or does not end in time.
  """
  threads = [num_threads] if isinstance(num_threads, int) else num_threads
  settings = [Setting(number, delegate)
              for delegate in delegates for number in threads]
  rows = [(setting, path) for setting in settings for path in paths]
  with isolated.objects() as files:
    for setting, path in rows:
      files.append(timed_file.start(
          path, setting.num_threads, setting.delegate, seed, time_limit))
    for file in files:
      file.call('warm_up', num_warm_up)
    times = _in_turn(files, -(-num_runs // BLOCK))
    costs = [file.call('costs') for file in files]
  blocks = np.median(times, axis=-1)
  held = {path: _held(path) for path in paths}
  return {
      'environment': environment(),
      'results': [
          _record(row, times[index], blocks[index],
                  blocks[index - index % len(paths)],
                  blocks[index % len(paths)] if len(settings) > 1 else None,
                  {**costs[index], **held[row[1]]})
          for index, row in enumerate(rows)],
  }


def _in_turn(files: Sequence[isolated.Object], rounds: int) -> np.ndarray:
  """Returns milliseconds [file, round, run]."""
  times: list[list[list[float]]] = [[] for _ in files]
  for turn in range(rounds):
    order = range(len(files)) if turn % 2 == 0 else (
        range(len(files) - 1, -1, -1))
    for index in order:
      times[index].append(files[index].call('block', BLOCK))
  return np.array(times)


def _record(
    row: tuple[Setting, str], times: np.ndarray, blocks: np.ndarray,
    first_file: np.ndarray, first_setting: np.ndarray | None,
    costs: dict[str, Any],
) -> dict[str, Any]:
  """Returns the record of a file in a setting.

  Args:
    row: Setting and path.
    times: Its milliseconds [round, run].
    blocks: Their medians [round].
    first_file: Those of the first file in this setting.
    first_setting: Those of this file in the first one of several settings.
    costs: What goes into the record, too.
  """
  setting, path = row
  if setting.delegate == 'none':
    costs = {**costs, 'num_delegate_partitions': 0}
  return {
      'model': path, **quantiles.record(times.ravel()),
      'num_runs': times.size, **dataclasses.asdict(setting), **costs,
      'block_ms': blocks.tolist(),
      **ratios.paired(blocks, first_file).record(),
      **({} if first_setting is None else {
          'to_first_setting': ratios.paired(blocks, first_setting).record()})}


def _held(path: str) -> dict[str, Any]:
  found = census.take(path)
  return {'size_bytes': found.size_bytes,
          'gzip_bytes': census.gzip_bytes(path),
          'num_delegate_partitions': found.num_delegate_partitions}


def environment() -> dict[str, Any]:
  """Returns machine and versions that a measurement depends on."""
  return {
      'processor': _cpuinfo('model name') or platform.processor() or (
          platform.machine()),
      'int8_instructions': _int8_instructions(),
      'num_cores': os.cpu_count(),
      'platform': platform.platform(),
      'python': platform.python_version(),
      **{package: importlib.metadata.version(package)
         for package in ('tensorflow', 'ai-edge-litert')},
  }


def _int8_instructions() -> str:
  """Returns the instructions on bytes, which int8 latency depends on most."""
  flags = (_cpuinfo('flags') or _cpuinfo('Features')).split()
  return ', '.join(sorted(_INT8_FLAGS.intersection(flags))) or 'none'


def _cpuinfo(key: str) -> str:
  """Returns a value of the first processor as the system gives it, or ''."""
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as f:
      return next((line.partition(':')[2].strip() for line in f
                   if line.startswith(key)), '')
  except OSError:
    return ''
