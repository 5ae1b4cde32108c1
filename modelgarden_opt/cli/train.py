"""`modelgarden-opt train`: the Model Garden's train.py."""

import argparse

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags

MODES = ('train', 'eval', 'train_and_eval', 'continuous_eval')


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  config_flags.add_flags(parser)
  parser.add_argument('--mode', choices=MODES, default='train_and_eval',
                      help='what to do (default: train_and_eval)')
  parser.add_argument('--model_dir', help='run directory')
  parser.add_argument(
      '--dry_run', action='store_true',
      help='print the resolved configuration, train nothing')


def run(args: argparse.Namespace) -> None:
  """Trains, evaluates, or prints what would be done."""
  config_flags.assert_directory('model_dir', args.model_dir or '')
  params = config_flags.resolve(args, args.model_dir or '')
  # pylint: disable=g-import-not-at-top
  if args.dry_run:
    from modelgarden_opt.tasks import run_directory
    print(run_directory.to_yaml(params), end='')
    return
  if not args.model_dir:
    raise errors.UsageError('model_dir: required unless --dry_run is given')
  from modelgarden_opt.training import experiment
  experiment.run_experiment(params, args.mode, args.model_dir)
