"""`modelgarden-opt train`: the Model Garden's train.py."""

import argparse

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.training import cluster

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


  parser.add_argument(
      '--worker_hosts', default='', metavar='HOST:PORT,...',
      help='all processes that train together, the chief first; the same as '
      'TF_CONFIG, see docs/scaling.md')
  parser.add_argument(
      '--task_index', type=int, default=-1, metavar='N',
      help='which of --worker_hosts this process is, from 0')


def run(args: argparse.Namespace) -> None:
  """Trains, evaluates, or prints what would be done."""
  config_flags.assert_directory('model_dir', args.model_dir or '')
  if args.worker_hosts:
    cluster.configure(args.worker_hosts, args.task_index)
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
