"""The flags that describe an experiment, and what they resolve to."""

import argparse
from collections.abc import Sequence
import glob
import os
import re

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import user_modules

# What makes a path a pattern.
_PATTERN = '*?[\\'
# Larger numbers of images, steps or seconds are mistakes.
_MOST = 10**9
_TIME = re.compile(r'(\d+(?:\.\d+)?)\s*([smh])')
_SECONDS = {'s': 1, 'm': 60, 'h': 3600}


def add_flags(
    parser: argparse.ArgumentParser, needs_experiment: bool = True) -> None:
  """Adds the Model Garden's configuration flags.

  Args:
    parser: Gets the flags.
    needs_experiment: False where a file may name the experiment.
  """
  parser.add_argument(
      '--experiment', required=needs_experiment,
      help='registered name, see `list`' + (
          '' if needs_experiment else ' (default: what the file says)'))
  parser.add_argument(
      '--config_file', action='append', default=[], metavar='YAML',
      help='overrides of the experiment; repeatable, later ones win')
  parser.add_argument(
      '--params_override', metavar='YAML',
      help="further overrides: YAML, JSON or 'a.b=1,c=2'")
  parser.add_argument(
      '--gin_file', action='append', default=[], metavar='GIN',
      help='gin file; repeatable')
  parser.add_argument(
      '--gin_params', action='append', default=[], metavar='BINDING',
      help='gin binding; repeatable')


def assert_files(field: str, paths: Sequence[str]) -> None:
  """Raises `UsageError` for files that are not there, before slow imports."""
  missing = [repr(path) for path in paths if not files.is_file(path)]
  if missing:
    raise errors.UsageError(f'{field}: there is no file {", ".join(missing)}')


def assert_directory(field: str, path: str) -> None:
  """Raises `UsageError` for a directory of checkpoints that cannot be read.

  TensorFlow reads the path of a checkpoint as a pattern, and finds nothing.
  """
  if not {*path}.isdisjoint(_PATTERN):
    raise errors.UsageError(
        f'{field}: TensorFlow finds no checkpoint in a directory with one of '
        f'{" ".join(_PATTERN)} in its path, received {path!r}')


def assert_numbers(
    args: argparse.Namespace, least: float, *names: str,
    most: int = _MOST, exclusive: bool = False) -> None:
  """Raises `UsageError` for numbers that are too small, too large or none.

  Args:
    args: The flags.
    least: The smallest number.
    *names: The flags that give them; those that are None have no number.
    most: The largest number.
    exclusive: Whether `least` itself is too small.
  """
  for name in names:
    value = getattr(args, name)
    if value is None or least <= value <= most and not (
        exclusive and value == least):
      continue
    rule = f'<= {most:,}' if value > most else (
        f'{">" if exclusive else ">="} {least:g}')
    raise errors.UsageError(f'{name}: must be {rule}, received {value}')


def seconds(field: str, text: str) -> float:
  """Returns the seconds of `90s`, `10m` or `1h`.

  Raises:
    UsageError: If the text is no such time.
  """
  match = _TIME.fullmatch(text.strip().lower())
  found = float(match[1]) * _SECONDS[match[2]] if match else 0.0
  if not 0 < found <= _MOST:
    raise errors.UsageError(
        f"{field}: expected seconds ('90s'), minutes ('10m') or hours ('1h'), "
        f'received {text[:40]!r}')
  return found


def add_import_flag(
    parser: argparse.ArgumentParser, of_action: bool = False) -> None:
  """Adds `--import`, which every command has.

  Args:
    parser: Gets the flag.
    of_action: Whether it is an action of a command; its default would replace
      what the command was given.
  """
  parser.add_argument(
      '--import', action='append', dest='imports', metavar='MODULE',
      default=argparse.SUPPRESS if of_action else [],
      help='module that registers backbones, schedules, costs or layer types; '
      'repeatable, kept in params.yaml of a run')


def import_modules(args: argparse.Namespace) -> None:
  """Imports what `--import` names."""
  user_modules.named_by_flag[:] = args.imports
  for name in args.imports:
    user_modules.assert_there(name, 'import')
  if args.imports:
    import_tensorflow()
    user_modules.load(args.imports, 'import')


def import_tensorflow() -> None:
  """Imports TensorFlow without its start-up chatter, unless that is wanted."""
  # Without a GPU the only errors at start-up are about the missing GPU.
  level = '2' if glob.glob('/dev/nvidia*') else '3'
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', level)
  # pylint: disable=g-import-not-at-top
  import tensorflow as tf
  tf.get_logger().setLevel('ERROR')


def resolve(args: argparse.Namespace, model_dir: str = ''):
  """Returns the validated configuration that the flags describe.

  Args:
    args: The flags.
    model_dir: Directory of the run; if it was started, it may go on with
      settings that would be refused for another one.

  Raises:
    UsageError: If anything about it is wrong.
  """
  assert_files('config_file', args.config_file)
  assert_files('gin_file', args.gin_file)
  import_tensorflow()
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.cli import gin_bindings
  from modelgarden_opt.configs import overrides
  gin_bindings.apply(args.gin_file, args.gin_params, args.imports)
  return overrides.resolve(
      args.experiment, args.config_file, args.params_override, args.imports,
      run=overrides.load_run(model_dir) if model_dir else None)
