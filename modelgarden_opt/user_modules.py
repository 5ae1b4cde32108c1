"""Imports modules of users, which register backbones, schedules and costs."""

from collections.abc import Iterable
import importlib
import importlib.util
import os
import sys
import types
from typing import Any

from modelgarden_opt import errors

# What `--import` of the command names, for run directories that need it.
named_by_flag: list[str] = []


def load(names: Iterable[str], field: str) -> None:
  """Imports modules from the Python path, then from the current directory.

  Args:
    names: Dotted names.
    field: Name of the field or flag that gave them, for messages.

  Raises:
    UsageError: If there is no module of a name, or importing it fails.
  """
  for name in names:
    load_one(name, field)


def assert_there(name: str, field: str) -> None:
  """Raises `UsageError` for a name that no module has; imports nothing."""
  here = os.getcwd()
  if here not in sys.path and '' not in sys.path:
    sys.path.append(here)
  if '/' in name or not all(name.split('.')):
    raise errors.UsageError(
        f'{field}: expected a dotted name of a module, as package.module, '
        f'received {name!r}')
  package = name.partition('.')[0]
  if package not in sys.modules and importlib.util.find_spec(package) is None:
    raise _missing(package, name, field)


def _missing(missing: str, name: str, field: str) -> errors.UsageError:
  return errors.UsageError(
      f'{field}: there is no module {missing!r} on the Python path or in '
      f'{os.getcwd()!r}, received {name!r}; set PYTHONPATH')


def load_one(name: str, field: str) -> Any:
  """Returns a module, see `load`."""
  assert_there(name, field)
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as e:
    if e.name is None or not f'{name}.'.startswith(f'{e.name}.'):
      raise errors.UsageError(f'{field}: importing {name!r} failed: {e}') from e
    raise _missing(e.name, name, field) from None
  except errors.UsageError:
    raise
  except (Exception, SystemExit) as e:  # A script ends the command, too.
    raise errors.UsageError(
        f'{field}: importing {name!r} failed: {errors.of_user_code(e)}') from e


def attribute(reference: str, field: str) -> Any:
  """Returns what `package.module:name` refers to.

  Args:
    reference: Module and name.
    field: Name of the field that gave it, for messages.

  Raises:
    UsageError: If there is no such thing.
  """
  module, separator, name = reference.partition(':')
  if not (module and separator and name):
    raise errors.UsageError(
        f'{field}: expected package.module:function, received {reference!r}')
  found = load_one(module, field)
  for part in name.split('.'):
    if not hasattr(found, part):
      public = [n for n in dir(found) if not n.startswith('_')]
      raise errors.UsageError(
          f'{field}: {module!r} has no {part!r}{_near(part, public)}')
    found = getattr(found, part)
    if isinstance(found, types.ModuleType):
      raise errors.UsageError(
          f'{field}: {part!r} in {reference!r} is a module, which goes before '
          'the colon')
  if not callable(found):
    raise errors.UsageError(
        f'{field}: expected a function, received {reference!r}, which is of '
        f'type {type(found).__name__}')
  return found


def _near(name: str, choices: list[str]) -> str:
  return errors.nearest(name, choices) if len(choices) <= 20 else (
      errors.close(name, choices))
