"""`modelgarden-opt run`: the stages of a pipeline YAML."""

import argparse
from collections.abc import Sequence

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.training import cluster


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--config_file', required=True, metavar='YAML',
                      help='model, stages and their overrides')
  parser.add_argument('--model', metavar='NAME',
                      help='run the stages for this model instead of the one '
                      'that the YAML file names')
  parser.add_argument('--model_dir', required=True,
                      help='where run directories, files and the report go')
  parser.add_argument('--dry_run', action='store_true',
                      help='check everything, print the commands, run nothing')


def load(path: str, model: str | None = None):
  """Returns the pipeline of a YAML file; every training of it resolves.

  Args:
    path: The YAML file.
    model: A model to run its stages for, instead of the one that it names.

  Raises:
    UsageError: If anything about the stages or their overrides is wrong.
  """
  return load_with_configs(path, model)[0]


def load_with_configs(
    path: str, model: str | None = None, imports: Sequence[str] = (),
    model_dir: str = ''):
  """Returns the pipeline of a YAML file and the trainings' configurations."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.configs import overrides
  from modelgarden_opt.pipeline import checking
  from modelgarden_opt.pipeline import stages
  values = overrides.load_yaml(path)
  if model is not None:
    values = {**values, 'model': model}
  if imports:  # Into the file of every training, and so into its params.yaml.
    values = stages.merge({'all': {'task': {'imports': [*imports]}}}, values)
  pipeline = stages.parse(values)
  return pipeline, checking.resolve(pipeline, model_dir, imports)


def run(args: argparse.Namespace) -> int:
  """Runs every stage that is not complete."""
  config_flags.assert_files('config_file', [args.config_file])
  config_flags.assert_directory('model_dir', args.model_dir)
  found = cluster.read()
  if found is not None and found.num_workers > 1:
    raise errors.UsageError(
        'TF_CONFIG: `run` is for one process; train the stages by `launch` or '
        'in the cluster, complete run directories take their place')
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  import shlex

  from modelgarden_opt.cli import main
  from modelgarden_opt.pipeline import checking
  from modelgarden_opt.pipeline import commands
  from modelgarden_opt.pipeline import executor
  from modelgarden_opt.training import lock
  from modelgarden_opt.training import strategies
  pipeline, configs = load_with_configs(
      args.config_file, args.model, args.imports, args.model_dir)
  # Before a model is built: TensorFlow makes devices when it starts.
  strategies.make_logical_cpus(max(
      config.runtime.num_logical_cpus for config in configs.values()))
  made_by = ['modelgarden-opt', 'run', f'--config_file={args.config_file}']
  if args.model:
    made_by.append(f'--model={args.model}')
  trusted = [f'--import={module}' for module in args.imports]
  made_by += trusted
  steps = commands.steps(pipeline, args.model_dir, shlex.join(made_by))
  for step in steps:  # Options of late stages are checked before any runs.
    for command in step.commands:
      main.parse(command)
  if args.dry_run or not all(
      executor.is_complete(step, args.model_dir) for step in steps
      if step.run_dir):
    checking.assert_models(pipeline, configs)
  if args.dry_run:
    for step in steps:
      for command in step.commands:
        print(f'modelgarden-opt {shlex.join([*command, *trusted])}')
    return 0
  with lock.held(args.model_dir):
    return executor.run(steps, args.model_dir, main.main, trusted)
