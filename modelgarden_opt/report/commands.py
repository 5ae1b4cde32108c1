"""The commands that made a variant, as a user would type them."""

from collections.abc import Mapping
from collections.abc import Sequence
import os
import shlex
from typing import Any

from modelgarden_opt.report import finding
from modelgarden_opt.report import runs as runs_lib

_PROGRAM = 'modelgarden-opt'
# Fields of an export record -> flags, where they are not the defaults.
_EXPORT_FLAGS = {'io_dtype': 'float32', 'runtime': 'xnnpack'}


def of(
    variant: Mapping[str, Any],
    found: finding.Found,
    runs: Mapping[str, runs_lib.Run],
) -> list[str]:
  """Returns the commands from the first training to the last measurement.

  Those that a pipeline recorded, and others made from what the run directories
  and the file's record say: these do again what was done.

  Args:
    variant: A record of `results.collect`.
    found: What was found.
    runs: Runs by directory.
  """
  recorded = [shlex.split(c) for r in found.of('record')
              for c in r['commands']]
  path = found.path_of(variant['model'])
  exports = {found.path_of(e['model']): e for e in found.of('export')}
  export = _recorded(recorded, 'export', 'output', path, found)
  if not export and exports.get(path, {}).get('checkpoint'):
    export = [_export(exports[path], variant)]
  commands = [
      *_trainings(variant.get('run', ''), recorded, runs, found), *export,
      *_recorded(recorded, 'evaluate', 'tflite', path, found),
      *_recorded(recorded, 'benchmark', 'tflite', path, found)]
  return [shlex.join([_PROGRAM, *command]) for command in commands]


def _flags(command: Sequence[str], name: str) -> list[str]:
  prefix = f'--{name}='
  return [a.removeprefix(prefix) for a in command if a.startswith(prefix)]


def _recorded(
    recorded: Sequence[Sequence[str]], command: str, flag: str, path: str,
    found: finding.Found,
) -> list[Sequence[str]]:
  """Returns the recorded commands that name a file."""
  return [c for c in recorded if c[0] == command and path in map(
      found.path_of, _flags(c, flag))]


def _trainings(
    directory: str, recorded: Sequence[Sequence[str]],
    runs: Mapping[str, runs_lib.Run], found: finding.Found,
) -> list[Sequence[str]]:
  """Returns the trainings that led to a run directory, in order."""
  chain, seen = [], set()
  while directory and directory not in seen:
    seen.add(directory)
    run = runs.get(directory)
    made = [c for c in recorded if c[0] == 'train' and directory in map(
        found.run_of, _flags(c, 'model_dir'))]
    if not made and run and run.experiment:
      made = [['train', f'--experiment={run.experiment}',
               f'--config_file={os.path.join(directory, finding.RUN_PARAMS)}',
               f'--model_dir={directory}']]
    chain = made[:1] + chain
    directory = run.source if run else ''
  return chain


def _export(
    export: Mapping[str, Any], variant: Mapping[str, Any]) -> list[str]:
  return ['export', f'--model_dir={variant.get("run", "")}',
          f'--format={export.get("format", "")}',
          *(f'--{name}={export[name]}'
            for name, default in _EXPORT_FLAGS.items()
            if export.get(name) not in (None, default)),
          *([f'--ptq={export["ptq"]}'] if export.get('ptq') else []),
          f'--output={export["model"]}']
