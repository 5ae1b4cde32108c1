"""Configurations that commands only look at, without TensorFlow if possible."""

from collections.abc import Mapping
from collections.abc import Sequence
import os
import re
import shlex
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.configs import modules
from modelgarden_opt.configs import resolving
from modelgarden_opt.configs.reading import yaml_file
from modelgarden_opt.configs.schema import marks
from modelgarden_opt.configs.schema import stored

RUN_PARAMS = 'params.yaml'
_LAUNCH = re.compile(r'^#.*--experiment=(\S+)', re.MULTILINE)


def experiment(name: str, imports: Sequence[str] = ()) -> stored.Experiment:
  """Returns an experiment without overrides.

  It is read from the kept schema, unless modules of a user may have added
  experiments, backbones or choices, or another release of the Model Garden is
  installed.

  Args:
    name: Its name.
    imports: Modules of a user.

  Raises:
    UsageError: If there is none of that name.
  """
  if not imports and stored.fits():
    found = stored.experiment(name)
    if found is not None:
      return found
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt import user_modules
  from modelgarden_opt.configs import overrides
  user_modules.load(imports, 'task.imports')
  config = overrides.base(name)
  config.task.name = name
  return overrides.described(config)


def resolve(
    name: str, sources: Mapping[str, Mapping[str, Any]],
    imports: Sequence[str] = (), trained: bool = False, of_run: bool = False,
) -> tuple[stored.Experiment, resolving.Resolved]:
  """Returns an experiment, and the configuration that overrides make of it.

  Args:
    name: Name of the experiment.
    sources: See `resolving.resolve`.
    imports: Modules that a flag named.
    trained: See `resolving.resolve`.
    of_run: See `modules.named`.
  """
  found = experiment(name, modules.named(sources, imports, of_run))
  return found, resolving.resolve(found, sources, trained)


def of_path(
    path: str, name: str | None = None, imports: Sequence[str] = (),
    looked_at: bool = False,
) -> tuple[stored.Experiment, resolving.Resolved, str]:
  """Returns what a run directory or a YAML file describes, and the file.

  Args:
    path: The directory or the file.
    name: The experiment; None for the one that the file names, as `task.name`
      or in the launch command of its first lines.
    imports: Modules of a user.
    looked_at: Whether a run is taken as it is, whatever rules there are today.

  Raises:
    UsageError: If it is neither, or names no experiment.
  """
  is_run = os.path.isdir(os.path.expanduser(path))
  file = os.path.join(path, RUN_PARAMS) if is_run else path
  values = yaml_file.load(file)
  name = name or experiment_of(file, values)
  return (*resolve(name, {file: values}, imports, is_run and looked_at, is_run),
          file)


def experiment_of(file: str, values: Mapping[str, Any]) -> str:
  """Returns the experiment that a file names.

  Raises:
    UsageError: If it names none.
  """
  task = values.get('task')
  name = task.get('name') if isinstance(task, Mapping) else None
  if isinstance(name, str) and name:
    return name
  found = _LAUNCH.search(yaml_file.text_of(file))
  if found is None:
    raise errors.UsageError(
        f'{file}: names no experiment, neither as task.name nor in a launch '
        'command in its first lines; give --experiment')
  return shlex.split(found[1])[0]


def flat(
    found: stored.Experiment, values: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns all values that count by their dotted names.

  Args:
    found: The experiment.
    values: Its values; of blocks with a `type`, only the chosen one counts.
  """
  result: dict[str, Any] = {}
  _flatten(found, found.root, values, '', result)
  return result


def _flatten(
    found: stored.Experiment, name: str, values: Mapping[str, Any], path: str,
    result: dict[str, Any],
) -> None:
  block = found.schema.blocks.get(name)
  fields = block.fields if block else {}
  for key, value in values.items():
    if block and block.one_of and key not in ('type', values.get('type')):
      continue
    if isinstance(value, Mapping) and value:
      inner = fields[key].block if key in fields else ''
      _flatten(found, inner, value, f'{path}{key}.', result)
    else:
      result[f'{path}{key}'] = marks.plain(value)
