"""Gin files and bindings of strangers: they set arguments and run nothing.

Gin itself imports whatever a file names, and with `dynamic_registration` calls
any function of Python. Here a file binds arguments of what `official`, `orbit`,
this package, and modules that `--import` names have registered.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import inspect
from typing import Any

import gin
from gin import config_parser

from modelgarden_opt import errors
from modelgarden_opt import files

_PACKAGES = ('official', 'orbit', 'modelgarden_opt')
# Names of gin itself that only pass values on.
_OF_GIN = ('gin.macro', 'macro', 'gin.constant', 'gin.singleton', 'singleton')
_MAX_BYTES = 2**20
_MAX_INCLUDES = 20


class _Reference:
  """A configurable that a value names."""

  def __init__(self, name: str):
    self.name = name.rpartition('/')[2]


class _Delegate(config_parser.ParserDelegate):
  """Makes values without looking anything up."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    del evaluate
    return _Reference(scoped_configurable_name)

  def macro(self, macro_name):
    return f'%{macro_name}'


def apply(
    gin_files: Sequence[str], bindings: Sequence[str],
    imports: Sequence[str] = (),
) -> None:
  """Applies gin files and bindings.

  Args:
    gin_files: Paths of the files.
    bindings: The bindings, applied last.
    imports: Modules of a user, which are imported already.

  Raises:
    UsageError: If they are no gin, or do more than bind arguments. Nothing is
      applied then.
  """
  texts = [(f'gin_file: {path}', _read(path)) for path in gin_files]
  if bindings:
    texts.append(('gin_params', '\n'.join(bindings)))
  for name, text in texts:
    with _told(name):
      _assert_only_binds(name, text, imports)
  for name, text in texts:
    with _told(name):
      gin.parse_config(text)


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
  """Turns errors of gin into errors about a file."""
  try:
    yield
  except errors.UsageError:
    raise
  except (OSError, ValueError, SyntaxError, TypeError, RecursionError,
          MemoryError, ImportError, AttributeError) as e:
    raise errors.UsageError(f'{name}: {_short(e)}') from None


def _short(error: BaseException) -> str:
  text = ' '.join(str(error).split()) or type(error).__name__
  return text if len(text) <= 300 else f'{text[:300]}...'


def _read(path: str) -> str:
  """Returns the text of a gin file."""
  try:
    content = files.read_bytes(files.expanded(path), _MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
      raise errors.UsageError(
          f'gin_file: {path!r} has more than {_MAX_BYTES:,} bytes')
    return content.decode('utf-8')
  except UnicodeDecodeError:
    raise errors.UsageError(f'gin_file: {path!r} is not UTF-8') from None
  except (OSError, ValueError) as e:
    raise errors.UsageError(
        f'gin_file: {path!r} cannot be read: '
        f'{getattr(e, "strerror", None) or e}') from None


def _assert_only_binds(
    name: str, text: str, imports: Sequence[str], depth: int = 0) -> None:
  """Raises `UsageError` if a text does more than bind arguments."""
  if depth > _MAX_INCLUDES:
    raise errors.UsageError(f'{name}: files include one another without end')
  for statement in config_parser.ConfigParser(text, _Delegate()):
    line = f'{name}, line {statement.location.line_num}'
    if isinstance(statement, config_parser.ImportStatement):
      if statement.module not in imports:
        raise errors.UsageError(
            f'{line}: imports {statement.module!r}, and gin files import '
            'nothing; modules that you trust are given by --import')
    elif isinstance(statement, config_parser.IncludeStatement):
      _assert_only_binds(f'gin_file: {statement.filename}', _read(
          statement.filename), imports, depth + 1)
    elif isinstance(statement, config_parser.BlockDeclaration):
      _assert_ours(statement.selector, line, imports)
    elif statement.arg_name:
      _assert_ours(statement.selector, line, imports)
    for reference in _references(getattr(statement, 'value', None)):
      _assert_ours(reference, line, imports)


def _references(value: Any) -> Iterator[str]:
  """Yields the configurables that a value names."""
  if isinstance(value, _Reference):
    yield value.name
  elif isinstance(value, dict):
    yield from (name for item in (*value, *value.values())
                for name in _references(item))
  elif isinstance(value, (list, tuple, set)):
    yield from (name for item in value for name in _references(item))


def _assert_ours(selector: str, line: str, imports: Sequence[str]) -> None:
  """Raises `UsageError` unless a configurable is one of those packages'."""
  if selector in _OF_GIN:
    return
  try:
    found = inspect.unwrap(gin.get_configurable(selector))
  except ValueError as e:
    raise errors.UsageError(f'{line}: {_short(e)}') from None
  module = getattr(found, '__module__', '') or ''
  if module.partition('.')[0] not in _PACKAGES and not any(
      f'{module}.'.startswith(f'{name}.') for name in imports):
    raise errors.UsageError(
        f'{line}: {selector!r} is of {module!r}; gin sets arguments of '
        f'{", ".join(_PACKAGES)} and of modules that --import names')
