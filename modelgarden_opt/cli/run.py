"""`modelgarden-opt run`: the stages of one YAML, resumed where they stopped."""

import argparse

from modelgarden_opt.cli import config_flags


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--config_file', required=True, metavar='YAML',
                      help='model, stages and their overrides')
  parser.add_argument('--model_dir', required=True,
                      help='for the run directories, files and the report')
  parser.add_argument('--dry_run', action='store_true',
                      help='print the commands of all stages and stop')


def load(path: str):
  """Returns the pipeline of a YAML file; every training of it resolves.

  Raises:
    UsageError: If anything about the stages or their overrides is wrong.
  """
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import errors
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.configs import overrides
  from modelgarden_opt.export import formats
  from modelgarden_opt.pipeline import stages
  pipeline = stages.parse(overrides.load_yaml(path))
  problems = []
  for training in pipeline.trainings:
    problems += [
        f'{training.name}.formats: {name!r} is not an export format'
        f'{errors.nearest(str(name), formats.FORMATS)}'
        for name in training.formats if name not in formats.FORMATS]
    try:
      overrides.resolve_values(
          training.experiment, {training.name: training.overrides})
    except errors.UsageError as e:
      problems.append(str(e))
  if problems:
    raise errors.UsageError('\n'.join(problems))
  return pipeline


def run(args: argparse.Namespace) -> int:
  """Runs every stage that is not complete."""
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  import shlex

  from modelgarden_opt.cli import main
  from modelgarden_opt.pipeline import commands
  from modelgarden_opt.pipeline import run as run_lib
  pipeline = load(args.config_file)
  steps = commands.steps(
      pipeline, args.model_dir,
      f'modelgarden-opt run --config_file={args.config_file}')
  for step in steps:
    for command in step.commands:
      main.parse(command)  # Options of late stages are wrong now or never.
  if args.dry_run:
    for step in steps:
      for command in step.commands:
        print(f'modelgarden-opt {shlex.join(command)}')
    return 0
  return run_lib.run(steps, args.model_dir, main.main)
