"""Estimates for Arm's Ethos-U NPUs by their compiler, Vela.

Vela runs as a process of its own: some files kill it. Its numbers are those of
a model of the hardware, and ops that stay on the CPU take no time in it.
"""

import collections
import csv
import glob
import os
import re
import sys
import tempfile
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import processes
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.targets import devices

PACKAGE = 'ethos-u-vela'
# Custom op that stands for all that runs on the NPU.
_NPU_OP = 'ethos-u'
_KIB = 1024
# Column of the summary -> field of the record; columns are in KiB.
_MEMORIES = {
    'sram_memory_used': 'sram_bytes',
    'dram_memory_used': 'dram_bytes',
    'off_chip_flash_memory_used': 'flash_bytes',
}
_REASON = re.compile(
    r"operator: (\w+), ofm: '([^\n]*)'\s*\nReason: ([^\n]*)")
# The tensor at the end of a reason; `first` names it.
_TENSOR = re.compile(r'\s*\([^\n]*\)$')
# Kinds of reasons that a record lists.
_NUM_REASONS = 10


def measure(path: str, options: devices.Options) -> devices.Record:
  """Compiles a file for an NPU, and returns what Vela says of it.

  Args:
    path: The file.
    options: `settings` (Vela's) and `time_limit` are read.

  Returns:
    `milliseconds` of an inference, memory and encoded weights in bytes, and
    which ops stay on the CPU and why.

  Raises:
    UsageError: If Vela is not installed.
    Failure: If it cannot compile the file.
  """
  version = processes.version(PACKAGE)
  vela = processes.find(
      'vela', processes.EXTRA, os.path.dirname(sys.executable))
  with tempfile.TemporaryDirectory() as directory:
    finished = processes.run(
        [vela, path, '--output-dir', directory,
         '--accelerator-config', options.settings['accelerator'],
         '--config', 'Arm/vela.ini',
         '--system-config', options.settings['system'],
         '--memory-mode', options.settings['memory']], options.time_limit)
    summaries = glob.glob(os.path.join(directory, '*_summary_*.csv'))
    compiled = glob.glob(os.path.join(directory, '*_vela.tflite'))
    if finished.returncode or not summaries or not compiled:
      raise errors.Failure(
          f'vela cannot compile {path!r} ({finished.end()}): '
          f'{finished.last_line() or "no message"}')
    with open(summaries[0], encoding='utf-8', newline='') as f:
      summary = read_summary(f.read())
    cpu_ops = collections.Counter(
        op.name for op in model_file.read(compiled[0]).ops
        if not (op.custom and op.name == _NPU_OP))
  return {
      'tool': 'vela', 'version': version,
      'system': options.settings['system'],
      'memory': options.settings['memory'],
      **summary, 'num_cpu_ops': cpu_ops.total(), 'cpu_ops': dict(cpu_ops),
      'reasons': reasons(finished.out),
      'notes': _notes(cpu_ops.total(), 'milliseconds' in summary)}


def read_summary(text: str) -> dict[str, Any]:
  """Returns what is kept of Vela's summary.

  Args:
    text: Content of the CSV file, with one row.

  Raises:
    Failure: If it has no row, or lacks a column.
  """
  try:
    row, = csv.DictReader(text.splitlines())
    found = {
        'milliseconds': 1e3 * float(row['inference_time']),
        'cycles': int(row['cycles_total']),
        'clock_hertz': float(row['core_clock']),
        'weight_bytes': int(row['total_npu_encoded_weights']),
        'dense_weight_bytes': int(row['total_original_weights'])}
    found |= {field: size for column, field in _MEMORIES.items()
              if (size := round(_KIB * float(row[column])))}
  except (KeyError, TypeError, ValueError) as e:
    raise errors.Failure(
        f'the summary of vela cannot be read ({type(e).__name__}: {e}); '
        f'{PACKAGE} of another version?') from None
  if not found['cycles']:  # Nothing runs on the NPU.
    del found['milliseconds']
  return found


def reasons(text: str) -> list[dict[str, Any]]:
  """Returns why ops stay on the CPU, the most frequent reasons first.

  Args:
    text: What Vela prints.

  Returns:
    `op`, `reason`, `count` and `first`, the tensor that the first one makes.
  """
  found: dict[tuple[str, str], list[str]] = {}
  for op, tensor, reason in _REASON.findall(text):
    said = _TENSOR.sub('', reason.strip())
    found.setdefault((op, said), []).append(tensor)
  ranked = sorted(found.items(), key=lambda item: -len(item[1]))
  return [{'op': op, 'reason': reason, 'count': len(tensors),
           'first': tensors[0]}
          for (op, reason), tensors in ranked[:_NUM_REASONS]]


def _notes(num_cpu_ops: int, any_on_npu: bool) -> list[str]:
  if not any_on_npu:
    return ['nothing runs on the NPU']
  if not num_cpu_ops:
    return []
  ops = 'op stays' if num_cpu_ops == 1 else 'ops stay'
  return [f'{num_cpu_ops} {ops} on the CPU, whose time is not in the '
          'milliseconds']
