"""What came from which file: remembered with a configuration, and written.

In `params.yaml` it is a block of comments after the values, so that whatever
reads YAML reads the file.
"""

from collections.abc import Mapping
import os
from typing import Any
import weakref

from modelgarden_opt.configs.schema import marks

HEADER = '# Where the values were written; all others are of the experiment.'
# By the identity of a configuration: it has no room for what is no field.
_REMEMBERED: dict[int, Mapping[str, marks.Mark]] = {}


def remember(config: Any, origins: Mapping[str, marks.Mark]) -> None:
  """Remembers where the values of a configuration were written."""
  _REMEMBERED[id(config)] = dict(origins)
  weakref.finalize(config, _REMEMBERED.pop, id(config), None)


def of(config: Any) -> Mapping[str, marks.Mark]:
  """Returns where values were written, by the dotted name of the field."""
  return _REMEMBERED.get(id(config), {})


def comments(origins: Mapping[str, marks.Mark]) -> str:
  """Returns a block of comments, a line for every field; empty for none."""
  lines = [f'#   {field}: {_where(mark)}'
           for field, mark in sorted(origins.items())]
  return '\n'.join([HEADER, *lines, '']) if lines else ''


def _where(mark: marks.Mark) -> str:
  source = mark.source
  if os.path.isabs(source):
    relative = os.path.relpath(source)
    source = source if relative.startswith('..') else relative
  text = f'{source}:{mark.line}' if mark.line else source
  return marks.printable(text)


def parse(text: str) -> dict[str, str]:
  """Returns where values were written, from the text of a `params.yaml`."""
  _, found, block = text.partition(HEADER + '\n')
  if not found:
    return {}
  lines = (line.removeprefix('#   ').partition(': ')
           for line in block.splitlines() if line.startswith('#   '))
  return {field: where for field, _, where in lines}
