"""Runs the steps of a pipeline, each once, whatever interrupts it."""

from collections.abc import Callable
from collections.abc import Sequence
import os
import shlex
from typing import Any
import uuid

import tensorflow as tf
import yaml

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.pipeline import commands as commands_lib
from modelgarden_opt.pipeline import identity

OUTDATED = 'outdated'


def run(
    steps: Sequence[commands_lib.Step],
    model_dir: str,
    execute: Callable[[Sequence[str]], int],
    flags: Sequence[str] = (),
) -> int:
  """Runs every step that is not complete.

  A step is complete when its record, written after it, says that the same
  commands with the same configuration made what is there from what is there.
  An interrupted training resumes, since the same command does. One whose source
  was trained again starts again; its earlier run is moved to `outdated/`. All
  other steps start again.

  Args:
    steps: What `commands.steps` returned.
    model_dir: Directory of all results.
    execute: Runs one command and returns its exit code.
    flags: Flags that every command gets, without being another one for that.

  Returns:
    The exit code of the first command that failed, else 0.

  Raises:
    UsageError: If a complete training was made with another configuration.
  """
  _assert_unchanged(steps, model_dir)
  for step in steps:
    if is_complete(step, model_dir):
      print(f'{step.name}: complete', flush=True)
      continue
    if step.run_dir:
      _prepare(step, model_dir)
    for command in step.commands:
      command = [*command, *flags]
      print(f'\n$ modelgarden-opt {shlex.join(command)}', flush=True)
      code = execute(command)
      if code:
        return code
    files.write_json(_path(step, model_dir), _record(step))
  return 0


def is_complete(step: commands_lib.Step, model_dir: str) -> bool:
  """Whether a step made what is there from what is there."""
  record = _record(step)
  return None not in record['outputs'].values() and (
      _recorded(step, model_dir) == record)


def _record(step: commands_lib.Step) -> dict[str, Any]:
  """Returns what a step is, what it depends on and what it made, as of now."""
  return {**step.description, 'inputs': identity.of(step.inputs),
          'outputs': identity.of(step.outputs)}


def _prepare(step: commands_lib.Step, model_dir: str) -> None:
  """Makes the directory and the YAML file of a training ready for it."""
  path = commands_lib.start_file(step.run_dir)
  inputs = identity.of(step.inputs)
  before = _read(path)
  if before is not None and before.get('inputs') != inputs:
    kept = _move_aside(step, model_dir)
    print(f'{step.name}: what it starts from was made again; its earlier run '
          f'is kept in {kept}', flush=True)
    before = None
  if before is None:
    # The name distinguishes two runs of one configuration.
    files.write_json(path, {'inputs': inputs, 'id': uuid.uuid4().hex})
  files.write_atomically(
      step.config[0], yaml.safe_dump(dict(step.config[1])))


def _move_aside(step: commands_lib.Step, model_dir: str) -> str:
  """Moves a run directory away and returns where it is now."""
  parent = os.path.join(model_dir, OUTDATED)
  tf.io.gfile.makedirs(parent)
  number = 1
  while tf.io.gfile.exists(
      path := os.path.join(parent, f'{step.name}-{number}')):
    number += 1
  tf.io.gfile.rename(step.run_dir, path)
  return path


def _assert_unchanged(
    steps: Sequence[commands_lib.Step], model_dir: str) -> None:
  changed = []
  for step in steps:
    record = _recorded(step, model_dir)
    # Records without outputs are of an earlier version: the step runs again,
    # and a training that is done ends at once.
    if step.run_dir and record is not None and 'outputs' in record and any(
        record.get(key) != value for key, value in step.description.items()):
      changed.append(step.name)
  if changed:
    raise errors.UsageError(
        f'model_dir: in {model_dir!r} {", ".join(changed)} was completed with '
        'another configuration; give another directory, or the same '
        'configuration')


def _recorded(
    step: commands_lib.Step, model_dir: str) -> dict[str, Any] | None:
  return _read(_path(step, model_dir))


def _read(path: str) -> dict[str, Any] | None:
  """Returns a record, None if there is none.

  Raises:
    UsageError: If it is damaged.
  """
  record = files.read_json_if_any(path)
  if record is not None and not isinstance(record, dict):
    raise errors.UsageError(
        f'{path!r} is damaged: it is no record of a stage; once it is moved '
        'away, the stage runs again')
  return record


def _path(step: commands_lib.Step, model_dir: str) -> str:
  return os.path.join(model_dir, 'complete', f'{step.name}.json')
