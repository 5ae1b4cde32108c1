"""`modelgarden-opt launch`: a cluster of workers on this machine."""

import argparse
import os
import sys

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.training import cluster
from modelgarden_opt.training import local_cluster


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.usage = ('modelgarden-opt launch [-h] --workers=N [options] '
                  'train --experiment=... --model_dir=... [options of train]')
  parser.add_argument('--workers', type=_number(1, 64), required=True,
                      metavar='N', help='processes that train together')
  parser.add_argument(
      '--parameter_servers', type=_number(0, 64), default=0, metavar='N',
      help='processes that keep the variables of runtime.'
      'distribution_strategy: parameter_server, beside a chief (default: 0)')
  parser.add_argument(
      '--restarts', type=_number(0, 1000), default=0, metavar='N',
      help='how often all are started again when one of them fails; they go '
      'on from the last checkpoint (default: 0)')
  parser.add_argument('--log_dir', help='directory of one log for each '
                      'process (default: `logs` in the run directory)')
  parser.add_argument('launched', nargs=argparse.REMAINDER, metavar='train ...',
                      help='the command that every worker runs')


def _number(least: int, most: int):
  """Returns the type of a flag that is a whole number."""

  def number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9 and
            least <= int(text) <= most):
      raise argparse.ArgumentTypeError(
          f'must be a whole number >= {least} and <= {most}, received {text!r}')
    return int(text)

  return number


def run(args: argparse.Namespace) -> int:
  """Runs the cluster; returns the exit code of the process that failed."""
  log_dir = args.log_dir or os.path.join(_model_dir(args.launched), 'logs')
  if '://' in log_dir:
    raise errors.UsageError(
        f'log_dir: logs are local files, received {log_dir!r}; give --log_dir')
  if args.parameter_servers:
    counts = {'chief': 1, 'worker': args.workers,
              'ps': args.parameter_servers}
  else:
    counts = {'worker': args.workers}
  made = not os.path.exists(log_dir)
  code = local_cluster.run(
      [sys.executable, '-m', 'modelgarden_opt.cli.main', *args.launched,
       *(f'--import={module}' for module in args.imports)],
      counts, log_dir, args.restarts)
  if code == local_cluster.REFUSED and made:
    _remove(log_dir)
  return code


def _model_dir(launched: list[str]) -> str:
  """Returns the run directory of the command; all of its flags are checked.

  Raises:
    UsageError: If it is no training, or belongs to a cluster already.
  """
  if not launched or launched[0] != 'train':
    raise errors.UsageError(
        'command: must be `train` with its flags, received '
        + (repr(launched[0]) if launched else 'no command'))
  from modelgarden_opt.cli import main  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.cli import paths  # pylint: disable=g-import-not-at-top
  train = main.parse(launched)
  paths.prepare(train, reach=False)
  if not train.model_dir:
    raise errors.UsageError('model_dir: train needs one')
  config_flags.assert_files('config_file', train.config_file)
  for name, given in (('worker_hosts', train.worker_hosts),
                      (cluster.VARIABLE, os.environ.get(cluster.VARIABLE))):
    if given:
      raise errors.UsageError(
          f'{name}: launch makes the cluster itself; leave it out')
  return train.model_dir


def _remove(log_dir: str) -> None:
  """Removes the logs of a command that was refused, which printed why."""
  for name in os.listdir(log_dir):
    os.remove(os.path.join(log_dir, name))
  os.rmdir(log_dir)
  parent = os.path.dirname(log_dir)
  if parent and not os.listdir(parent):
    os.rmdir(parent)
