"""Phones: command lines of TFLite's `benchmark_model`, and what it measured.

Nothing runs here. Without results, a record has the commands to run where the
phone is connected; with them, it has what the tool wrote.
"""

import os
import shlex

from modelgarden_opt.benchmark import per_op
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.targets import benchmark_results
from modelgarden_opt.targets import devices

_PHONE = '/data/local/tmp'
_TOOL = 'benchmark_model'
# Name of a run -> what chooses the delegate.
DELEGATES = {
    'cpu': ('--use_xnnpack=true',),
    'gpu': ('--use_gpu=true',),
    'nnapi': ('--use_nnapi=true',),
}
_COMMON = ('--warmup_runs=20', '--num_runs=200', '--enable_op_profiling=true')


def measure(path: str, options: devices.Options) -> devices.Record:
  """Returns the commands for a file, or the results of one of them.

  Args:
    path: The file.
    options: `num_threads` and `results` are read.

  Returns:
    `commands`; or `milliseconds` and the time of every op.

  Raises:
    UsageError: If the results cannot be read.
  """
  record = {'tool': _TOOL, 'version': ''}
  if not options.results:
    return {**record, 'commands': commands(path, options.num_threads),
            'notes': ['nothing was measured: run the commands, then give '
                      '--results what they wrote']}
  found = benchmark_results.Results()
  for result in options.results:
    found = found.merged(benchmark_results.read(result))
  record |= {'results': list(options.results), **found.record(), 'notes': []}
  if found.ops:
    record['per_op'] = per_op.summarize(found.ops, model_file.read(path))
  return record


def commands(path: str, num_threads: int) -> list[str]:
  """Returns the lines that push a file and time it on every delegate."""
  name = os.path.basename(path)
  graph = f'{_PHONE}/{name}'
  lines = [
      f'adb push {_TOOL} {_PHONE}/',
      f'adb push {shlex.quote(path)} {_PHONE}/',
      f'adb shell chmod +x {_PHONE}/{_TOOL}']
  for delegate, flags in DELEGATES.items():
    result = f'{os.path.splitext(name)[0]}_{delegate}'
    flags = [f'--graph={graph}', f'--num_threads={num_threads}', *_COMMON,
             f'--result_file_path={_PHONE}/{result}.pb', *flags]
    run = f'{_PHONE}/{_TOOL} {" ".join(map(shlex.quote, flags))}'
    lines += [f'adb shell {shlex.quote(run)} > {shlex.quote(result)}.txt 2>&1',
              f'adb pull {shlex.quote(f"{_PHONE}/{result}.pb")}']
  return lines
