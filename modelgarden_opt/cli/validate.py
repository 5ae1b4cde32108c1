"""`modelgarden-opt validate`: whether configurations and pipelines are right.
"""

import argparse

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument(
      'files', nargs='*', metavar='FILE', help='YAML files, each by itself: of '
      'a run or a pipeline; or run directories')
  parser.add_argument(
      '--experiment', help='what the files are for (default: what they say)')
  parser.add_argument(
      '--config_file', action='append', default=[], metavar='YAML',
      help='overrides that are applied together; repeatable, later ones win')
  parser.add_argument('--params_override', metavar='YAML',
                      help="further overrides: YAML, JSON or 'a.b=1,c=2'")
  parser.add_argument('--pipeline', action='append', default=[],
                      metavar='YAML', help='a pipeline; repeatable')
  parser.add_argument(
      '--no_models', action='store_true', help='do not build the models of '
      'pipelines, which takes seconds: rules are not matched against layers, '
      'and checkpoints are not looked for')


def run(args: argparse.Namespace) -> None:
  """Prints a line for everything that is right; else raises one message."""
  if not (args.files or args.config_file or args.pipeline or args.experiment):
    raise errors.UsageError(
        'FILE: expected a YAML file, --pipeline or --experiment')
  lines, problems = [], []
  checks = [lambda path=path: _file(path, args)
            for path in (*args.pipeline, *args.files)]
  if args.config_file or (args.experiment and not checks):
    checks.append(lambda: _together(args))
  for check in checks:
    try:
      lines.append(check())
    except errors.UsageError as e:
      problems.append(str(e))
  if problems:
    raise errors.UsageError('\n'.join(problems))
  for line in lines:
    print(line)


def _together(args: argparse.Namespace) -> str:
  """Checks files that are applied one after the other."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.cli import configurations
  from modelgarden_opt.configs import resolving
  sources = resolving.read(args.config_file, args.params_override)
  name = args.experiment
  if not name:
    first = args.config_file[0]
    name = configurations.experiment_of(first, sources[first])
  _, resolved = configurations.resolve(name, sources, args.imports)
  resolved.raise_if_wrong()
  return f'{" ".join([name, *args.config_file])}: right'


def _file(path: str, args: argparse.Namespace) -> str:
  """Checks one file by itself."""
  from modelgarden_opt.cli import configurations  # pylint: disable=g-import-not-at-top
  if _is_pipeline(path) or path in args.pipeline:
    return _pipeline(path, args)
  found, resolved, _ = configurations.of_path(
      path, args.experiment, args.imports)
  resolved.raise_if_wrong()
  return f'{path}: right, for {found.values["task"]["name"]}'


def _is_pipeline(path: str) -> bool:
  from modelgarden_opt.configs.reading import yaml_file  # pylint: disable=g-import-not-at-top
  try:
    return 'stages' in yaml_file.load(path)
  except errors.UsageError:  # A run directory, or nothing that is one.
    return False


def _pipeline(path: str, args: argparse.Namespace) -> str:
  """Checks all stages of a pipeline, and its models unless told not to."""
  # pylint: disable=g-import-not-at-top
  if not args.no_models:
    config_flags.import_tensorflow()
    from modelgarden_opt.cli import run as run_lib
    from modelgarden_opt.pipeline import checking
    pipeline, configs = run_lib.load_with_configs(path, imports=args.imports)
    checking.assert_models(pipeline, configs)
    return f'{path}: right, {len(pipeline.trainings)} trainings'
  from modelgarden_opt.cli import configurations
  from modelgarden_opt.configs import resolving
  from modelgarden_opt.configs.reading import yaml_file
  from modelgarden_opt.pipeline import fields
  from modelgarden_opt.pipeline import stages
  pipeline = stages.parse(yaml_file.load(path))
  problems = []
  for training in pipeline.trainings:
    if not training.run:
      _, resolved = configurations.resolve(
          training.experiment, {training.name: training.overrides},
          args.imports)
      problems += fields.of_stage(training.name, resolved.problems)
  if problems:
    raise resolving.WrongConfiguration(problems)
  return f'{path}: right, {len(pipeline.trainings)} trainings'
