"""Latency of `.tflite` files, interleaved so that drift affects all alike."""

from collections.abc import Sequence
import importlib.metadata
import os
import platform
import time
from typing import Any

import numpy as np

from modelgarden_opt import ratios
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import litert_model

# Runs of a file before the next file's turn.
BLOCK = 5

# Processor flags of instructions that multiply and add bytes.
_INT8_FLAGS = frozenset({
    'avx512_vnni', 'avx_vnni', 'amx_int8', 'asimddp', 'i8mm'})


def benchmark(
    paths: Sequence[str],
    num_threads: int = 1,
    num_runs: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
  """Times files against each other.

  The files take turns in blocks of a few runs, each block after one run that
  is not counted, and every other round goes backwards. A change of the
  machine's clock or a noisy neighbour then affects every file.

  Args:
    paths: The files.
    num_threads: Threads of every interpreter.
    num_runs: Counted runs of every file, rounded up to whole blocks.
    seed: Seed of the random input.

  Returns:
    `environment`, and `results` with one record a file in the order of
    `paths`: milliseconds, sizes, `block_ms`, the medians of the blocks, which
    can be paired between files, and `ratio`, this file's over the first file's
    with its confidence interval `ratio_low` to `ratio_high`, both None for a
    single block (see `ratios.paired`; a round is a block).

  Raises:
    UsageError: If a file is missing or cannot be loaded.
  """
  models = [litert_model.Model(path, num_threads) for path in paths]
  rng = np.random.default_rng(seed)
  for model in models:
    model.set_input(rng.uniform(-2, 2, model.input_shape).astype(np.float32))
  times: list[list[float]] = [[] for _ in models]
  rounds = -(-num_runs // BLOCK)
  for turn in range(rounds):
    order = range(len(models)) if turn % 2 == 0 else (
        range(len(models) - 1, -1, -1))
    for index in order:
      times[index] += _time_block(models[index])
  milliseconds = 1e3 * np.array(times)
  blocks = np.median(milliseconds.reshape(len(paths), -1, BLOCK), axis=-1)
  return {
      'environment': environment(),
      'results': [
          {**_record(path, t, num_threads), 'block_ms': block.tolist(),
           **ratios.paired(block, blocks[0]).record()}
          for path, t, block in zip(paths, milliseconds, blocks)],
  }


def _time_block(model: litert_model.Model) -> list[float]:
  """Returns the seconds of a block of runs; the first one only warms up."""
  model.invoke()
  seconds = []
  for _ in range(BLOCK):
    start = time.perf_counter()
    model.invoke()
    seconds.append(time.perf_counter() - start)
  return seconds


def _record(path: str, times: np.ndarray, num_threads: int) -> dict[str, Any]:
  with open(path, 'rb') as f:
    content = f.read()
  return {
      'model': path,
      'median_ms': float(np.median(times)),
      'p90_ms': float(np.percentile(times, 90)),
      'p99_ms': float(np.percentile(times, 99)),
      'min_ms': float(np.min(times)),
      'num_runs': len(times),
      'num_threads': num_threads,
      'size_bytes': len(content),
      'gzip_bytes': census.gzip_bytes(path),
      'num_delegate_partitions': census.take(path).num_delegate_partitions,
  }


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
