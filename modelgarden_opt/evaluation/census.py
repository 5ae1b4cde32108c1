"""What is in a `.tflite` file, and what the default delegate makes of it.

Files are loaded in a process of its own, which a damaged one may take down.
"""

import collections
import dataclasses
import gzip
from typing import Any

import numpy as np

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import isolated
from modelgarden_opt.evaluation import litert_loading

_DELEGATE = 'DELEGATE'
_BOUNDARY_OPS = ('QUANTIZE', 'DEQUANTIZE')
# Seconds that loading a file twice may take.
_TIME_LIMIT = 300.0


@dataclasses.dataclass(frozen=True)
class Census:
  """What is in a file, and what the default delegate makes of it.

  Attributes:
    ops: Number of ops by name.
    float_ops: Number of ops that compute in float, by name; the conversions
      at the borders of integer parts do not count.
    num_delegate_partitions: Parts that the XNNPACK delegate takes; 1 is best.
    num_undelegated_ops: Ops that no delegate takes.
    size_bytes: Size of the file.
  """
  ops: dict[str, int]
  float_ops: dict[str, int]
  num_delegate_partitions: int
  num_undelegated_ops: int
  size_bytes: int


def take(path: str) -> Census:
  """Returns what a file holds, by loading it without and with its delegate.

  Args:
    path: The file.

  Raises:
    UsageError: If there is no such file, or it is not a TFLite model.
  """
  return _apart('take', path)


def file_format(path: str) -> str:
  """Returns the export format whose arithmetic a file has.

  Raises:
    UsageError: As for `take`.
  """
  return _apart('file_format', path)


def _apart(question: str, path: str) -> Any:
  """Returns an answer of `Answers`, which are given in another process."""
  try:
    with files.local(path) as there, isolated.Object(
        f'{__name__}:Answers', name=repr(path),
        time_limit=_TIME_LIMIT) as answers:
      return answers.call(question, there)
  except isolated.Crashed as e:
    raise errors.UsageError(f'tflite: {path!r} cannot be loaded: {e}') from None


class Answers:
  """What is asked about files, by loading them here."""

  def take(self, path: str) -> Census:
    """Returns what `take` of this module returns."""
    with litert_loading.named(path):
      return _take(path)

  def file_format(self, path: str) -> str:
    """Returns what `file_format` of this module returns."""
    with litert_loading.named(path):
      return _file_format(path)


def _take(path: str) -> Census:
  ops = litert_loading.ops(
      litert_loading.load(path, 1, delegates=False))
  computing = [op for op in ops if op['op_name'] not in _BOUNDARY_OPS]
  delegated = litert_loading.load(path, 1)
  delegates = [op for op in litert_loading.ops(delegated)
               if op['op_name'] == _DELEGATE]
  return Census(
      ops=_count(ops),
      float_ops=_count(
          op for op in computing if np.float32 in op['result_types']),
      num_delegate_partitions=len(delegates),
      num_undelegated_ops=_num_undelegated(delegated),
      size_bytes=files.size_and_time(path)[0])


def _file_format(path: str) -> str:
  ops = litert_loading.ops(
      litert_loading.load(path, 1, delegates=False))
  computing = [op for op in ops if op['op_name'] not in _BOUNDARY_OPS]
  results = {t for op in computing for t in op['result_types']}
  if any(np.float16 in op['operand_types'] for op in ops):
    return 'float16'
  if np.int16 in results:
    return 'int16x8'
  if np.float32 not in results:
    return 'int8'
  operands = {t for op in computing for t in op['operand_types']}
  if np.int8 in results:
    return 'mixed'
  return 'dynamic_int8' if np.int8 in operands else 'float32'


def gzip_bytes(path: str) -> int:
  """Returns the size of a file compressed with gzip at level 9."""
  return len(gzip.compress(files.read_bytes(path), compresslevel=9))


def _count(ops) -> dict[str, int]:
  return dict(collections.Counter(op['op_name'] for op in ops))


def _num_undelegated(interpreter) -> int:
  """Counts the ops that run outside of any delegate.

  The list of ops keeps those that a delegate replaced; walking back from the
  outputs shows which ones still run.
  """
  ops = litert_loading.ops(interpreter)
  # A delegate's node comes after the ops it replaced, so it wins.
  producers = {int(t): op for op in ops for t in op['outputs']}
  pending = [d['index'] for d in interpreter.get_output_details()]
  running, seen = {}, set()
  while pending:
    tensor = int(pending.pop())
    op = producers.get(tensor)
    if op is None or tensor in seen:
      continue
    seen.add(tensor)
    running[op['index']] = op
    pending.extend(op['inputs'])
  return sum(op['op_name'] != _DELEGATE for op in running.values())
