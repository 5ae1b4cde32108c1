"""Runs the steps of a pipeline, each once, whatever interrupts it."""

from collections.abc import Callable
from collections.abc import Sequence
import os
import shlex
from typing import Any

import yaml

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.pipeline import commands as commands_lib


def run(
    steps: Sequence[commands_lib.Step],
    model_dir: str,
    execute: Callable[[Sequence[str]], int],
) -> int:
  """Runs every step that is not complete.

  A step is complete when its record, written behind it, says that the same
  commands with the same configuration ended well. An interrupted training
  resumes, since the same command does; all others start again.

  Args:
    steps: What `commands.steps` returned.
    model_dir: Directory of all results.
    execute: Runs one command and returns its exit code.

  Returns:
    The exit code of the first command that failed, else 0.

  Raises:
    UsageError: If a complete training was made with another configuration.
  """
  _assert_unchanged(steps, model_dir)
  fresh = False
  for step in steps:
    if not fresh and _recorded(step, model_dir) == step.record:
      print(f'{step.name}: complete', flush=True)
      continue
    # What lies behind a step that is done again is out of date.
    fresh = fresh or not step.config
    if step.config:
      files.write_atomically(
          step.config[0], yaml.safe_dump(dict(step.config[1])))
    for command in step.commands:
      print(f'\n$ modelgarden-opt {shlex.join(command)}', flush=True)
      code = execute(command)
      if code:
        return code
    files.write_json(_path(step, model_dir), step.record)
  return 0


def _assert_unchanged(
    steps: Sequence[commands_lib.Step], model_dir: str) -> None:
  changed = [
      step.name for step in steps if step.config
      and _recorded(step, model_dir) not in (None, step.record)]
  if changed:
    raise errors.UsageError(
        f'model_dir: in {model_dir!r} {", ".join(changed)} was completed with '
        'another configuration; give another directory, or the same '
        'configuration')


def _recorded(step: commands_lib.Step, model_dir: str) -> Any:
  return files.read_json(_path(step, model_dir))


def _path(step: commands_lib.Step, model_dir: str) -> str:
  return os.path.join(model_dir, 'complete', f'{step.name}.json')
