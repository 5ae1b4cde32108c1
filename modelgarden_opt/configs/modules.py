"""Modules that a configuration names: a flag has to name them, too.

Importing a module runs it, and so does calling a function of it. A file of
somebody else's only says what it needs; whoever starts a command says by
`--import` what may run.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import importlib.util
import os
import sys
import sysconfig
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import user_modules
from modelgarden_opt.configs.schema import marks

IMPORTS = 'task.imports'
# Names a function, and the module whose functions do nothing but make models.
BUILDER = 'task.model.backbone.keras.builder'
KERAS_MODELS = 'tf_keras.applications'


def named(
    sources: Mapping[str, Mapping[str, Any]], imports: Sequence[str],
    of_run: bool = False,
) -> list[str]:
  """Returns the modules that flags and overrides name, each once.

  Args:
    sources: Overrides by the name that messages call them.
    imports: Modules that `--import` named; they stand for those below them.
    of_run: Whether the overrides are of a run directory: it keeps the modules
      that were named when it was trained. They need no flag if they are a
      user's own, so not installed ones, whose functions may do anything.

  Raises:
    UsageError: If overrides name modules that no flag names.
  """
  found, problems = [*imports], []
  for source, values in sources.items():
    for field, module, mark in _modules_of(values):
      found.append(module)
      if not is_below(module, imports) and not (of_run and (
          is_of_user(module) or
          is_below(module, user_modules.named_by_flag))):
        problems.append(marks.Problem(
            field, f'names the module {marks.shown(module)}, and importing it '
            f'would run it; if you trust it, add --import={module[:60]}',
            mark or marks.Mark(source)))
  if problems:
    raise errors.UsageError('\n'.join(dict.fromkeys(map(str, problems))))
  return list(dict.fromkeys(found))


def is_below(module: str, packages: Sequence[str]) -> bool:
  """Whether a module is one of some packages, or in one of them."""
  return any(f'{module}.'.startswith(f'{name}.') for name in packages)


def is_of_user(module: str) -> bool:
  """Whether a module is neither Python's, nor installed, nor of this package.
  """
  top = module.partition('.')[0]
  if top in sys.stdlib_module_names or top == __name__.partition('.')[0]:
    return False
  try:
    spec = importlib.util.find_spec(top)
  except (ImportError, ValueError):
    return False
  if spec is None:  # In the current directory, or not at all.
    return True
  places = [spec.origin or '', *(spec.submodule_search_locations or ())]
  installed = {sysconfig.get_path(name) for name in ('purelib', 'platlib')}
  return not any(place.startswith(f'{directory}{os.sep}')
                 for place in places for directory in installed)


def _modules_of(
    values: Mapping[str, Any]
) -> Iterator[tuple[str, str, marks.Mark | None]]:
  """Yields field, module and place of what overrides name."""
  modules, mark = _value(values, IMPORTS)
  for module in modules if isinstance(modules, list) else ():
    if isinstance(module, str):
      yield IMPORTS, module, mark
  builder, mark = _value(values, BUILDER)
  if isinstance(builder, str):
    module, separator, function = builder.partition(':')
    # What is no reference to a function is told where it would be called.
    if module and separator and function and module != KERAS_MODELS:
      yield BUILDER, module, mark


def _value(
    values: Any, field: str) -> tuple[Any, marks.Mark | None]:
  """Returns the value of a field and where it was written, if it is there."""
  mark = None
  for name in field.split('.'):
    if not isinstance(values, Mapping) or name not in values:
      return None, None
    values, mark = values[name], marks.mark_of(values, name, None)
  return values, mark
