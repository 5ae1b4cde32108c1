"""Applies YAML overrides to an experiment; reports every error at once.

A configuration is plain data until everything about it is known to be right
(`resolving`); then it becomes the Model Garden's objects.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import difflib
import os
from typing import Any

from official.core import config_definitions as cfg
from official.core import exp_factory

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import user_modules
from modelgarden_opt.configs import block as block_cfg
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import compressed
from modelgarden_opt.configs import experiments
from modelgarden_opt.configs import modules
from modelgarden_opt.configs import origins
from modelgarden_opt.configs import resolving
from modelgarden_opt.configs import run_files
from modelgarden_opt.configs.reading import flag
from modelgarden_opt.configs.reading import yaml_file
from modelgarden_opt.configs.rules import every
from modelgarden_opt.configs.rules import rule
from modelgarden_opt.configs.schema import checking
from modelgarden_opt.configs.schema import live
from modelgarden_opt.configs.schema import marks
from modelgarden_opt.configs.schema import stored

RUN_PARAMS = run_files.PARAMS
# Names of experiments that an error lists.
_MAX_NEAREST = 5

load_yaml = yaml_file.load


def load_run(model_dir: str) -> dict[str, Any] | None:
  """Returns the configuration of a run, None where none was started."""
  path = os.path.join(model_dir, RUN_PARAMS)
  return load_yaml(path) if files.exists(path) else None


def parse_override(text: str) -> dict[str, Any]:
  """Returns what `--params_override` says, see `configs.reading.flag`.

  Raises:
    UsageError: If it is not YAML, or not a mapping.
  """
  return flag.parse(text, '--params_override')


def resolve(
    experiment: str,
    config_files: Sequence[str] = (),
    params_override: str | None = None,
    imports: Sequence[str] = (),
    trained: bool = False,
    run: Mapping[str, Any] | None = None,
) -> cfg.ExperimentConfig:
  """Returns a validated experiment configuration.

  Args:
    experiment: Name of a registered experiment.
    config_files: YAML files, applied in order.
    params_override: YAML, JSON or `a.b=1,c=2` string (or a YAML file's path),
      applied last.
    imports: Modules that a flag named; no others may be named.
    trained: See `resolving.resolve`.
    run: See `resolving.resolve`.

  Raises:
    UsageError: One message with every unknown field, wrong type and broken
      rule of all files together.
  """
  return resolve_values(
      experiment, resolving.read(config_files, params_override), imports,
      trained, run)


def resolve_values(
    experiment: str,
    sources: Mapping[str, Mapping[str, Any]],
    imports: Sequence[str] = (),
    trained: bool = False,
    run: Mapping[str, Any] | None = None,
) -> cfg.ExperimentConfig:
  """Returns a validated experiment configuration.

  Args:
    experiment: Name of a registered experiment.
    sources: Overrides in the order of their application, by the name that
      messages call them.
    imports: Modules that a flag named. Overrides may name no others, but those
      of a run that was trained.
    trained: See `resolving.resolve`.
    run: See `resolving.resolve`.

  Raises:
    UsageError: One message with everything that is wrong.
  """
  imports = modules.named(sources, imports, trained)
  user_modules.load(imports, modules.IMPORTS)
  config = base(experiment)
  # A run directory knows by this name which configuration classes it holds.
  config.task.name = experiment
  resolved = resolving.resolve(described(config), sources, trained, run)
  resolved.raise_if_wrong()
  _override(config, resolved.overrides)
  config.task.imports = imports
  origins.remember(config, resolved.origins)
  return _locked(config)


def _override(
    config: cfg.ExperimentConfig, values: Mapping[str, Any]) -> None:
  """Applies overrides that are right; lists replace lists."""
  try:
    config.override(marks.plain(values), is_strict=True)
  except (KeyError, TypeError, ValueError, AttributeError) as e:
    raise errors.UsageError(
        f'the configuration cannot be made: {type(e).__name__}: {e}') from e


def described(config: cfg.ExperimentConfig) -> stored.Experiment:
  """Returns a configuration as plain data with its schema."""
  task = next((name for name, (cls, _) in experiments.TASKS.items()
               if isinstance(config.task, cls)), '')
  return stored.Experiment(
      task, live.schema_of(config), live.name_of(type(config)),
      live.plain(config))


def base(experiment: str) -> cfg.ExperimentConfig:
  """Returns the configuration that is registered under a name.

  Raises:
    UsageError: If there is none, or it is of a task of the Model Garden's that
      is not one of this framework.
  """
  try:
    config = exp_factory.get_exp_config(experiment)
  except LookupError:
    raise errors.UsageError(unknown(experiment)) from None
  if not isinstance(config.task, compressed.CompressedTask):
    raise errors.UsageError(unknown(
        experiment, "is the Model Garden's own, which has no techniques"))
  return config


def unknown(experiment: str, what: str = 'is not registered') -> str:
  """Says what to do about the name of an experiment, in one line."""
  every = (f'`modelgarden-opt list` names all {len(catalog.EXPERIMENTS)}')
  task = next((task for word, task in catalog.OTHER_TASKS.items()
               if word in experiment.lower()), None)
  if task is not None:
    supported = sorted({model.task for model in catalog.MODELS.values()})
    return (f'experiment: {marks.shown(experiment)} is about {task}, which is '
            f'not supported yet; {" and ".join(supported)} are: {every}')
  near = [name for name, model in catalog.MODELS.items()
          if model.base == experiment][:_MAX_NEAREST]
  near = near or difflib.get_close_matches(
      experiment[:99], catalog.EXPERIMENTS, n=_MAX_NEAREST, cutoff=0.5)
  hint = f'; did you mean {", ".join(map(repr, near))}?' if near else ';'
  return f'experiment: {marks.shown(experiment)} {what}{hint} {every}'


def finish(config: cfg.ExperimentConfig) -> cfg.ExperimentConfig:
  """Returns a configuration that was put together in Python, locked.

  Raises:
    UsageError: If anything is wrong with it.
  """
  name = config.task.name
  found = described(config)
  before = None
  if name in catalog.EXPERIMENTS:
    before = live.plain(exp_factory.get_exp_config(name))
  resolving.of_values(found, before).raise_if_wrong()
  return _locked(config)


def problems_of(
    blocks: Mapping[str, block_cfg.Block], train_steps: int | None = None
) -> list[str]:
  """Returns what is wrong with blocks of techniques, a line each.

  Args:
    blocks: The blocks by the names of their techniques.
    train_steps: Steps of training; None if nobody knows yet.
  """
  problems, plain = [], {}
  for name, block in blocks.items():
    schema, kind = live.schema_of(block), live.name_of(type(block))
    checker = checking.Checker(schema)
    plain[name] = schema.merge(kind, schema.defaults(kind), checker.block(
        kind, live.plain(block), f'task.{name}.'))
    problems += checker.problems
  values: dict[str, Any] = {'task': plain}
  if train_steps is not None:
    values['trainer'] = {'train_steps': train_steps}
  problems += rule.apply(every.rules(), values,
                         wrong=[problem.field for problem in problems])
  return [str(problem).removeprefix('task.') for problem in problems]


def _locked(config: cfg.ExperimentConfig) -> cfg.ExperimentConfig:
  try:
    config.validate()
  except KeyError as e:
    raise errors.UsageError(f'restriction {e}') from None
  config.lock()
  return config
