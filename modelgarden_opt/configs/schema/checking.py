"""Checks overrides against the schema: names, types, ranges, choices."""

from collections.abc import Iterator
from collections.abc import Mapping
import math
import re
from typing import Any

import yaml

from modelgarden_opt import errors
from modelgarden_opt.configs.schema import fields
from modelgarden_opt.configs.schema import marks
from modelgarden_opt.configs.schema import ranges

# More choices than these are not listed; the nearest one is named.
_MAX_CHOICES = 30
# Texts that TensorFlow and file systems cannot take.
_CONTROL = re.compile('[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]')
_NAMES = {'bool': 'bool', 'int': 'int', 'float': 'float', 'str': 'str',
          'list': 'list', 'block': 'mapping', 'any_fields': 'mapping'}
# What YAML reads as true or false, unless it is quoted.
_WORDS = frozenset(yaml.SafeLoader.bool_values)
# Any value of a field of any name is one of these, or a list of them.
_SCALARS = (str, int, float, bool, type(None))


class Checker:
  """Checks values of one schema.

  Attributes:
    problems: What was found.
  """

  def __init__(self, schema: fields.Schema):
    """Initializes the checker.

    Args:
      schema: What is taken.
    """
    self._schema = schema
    self.problems: list[marks.Problem] = []

  def block(
      self, name: str, values: Mapping[str, Any], path: str = '',
      mark: marks.Mark | None = None,
  ) -> dict[str, Any]:
    """Returns the overrides of a block without those that are wrong.

    Args:
      name: Name of the block.
      values: The overrides.
      path: Name of the block in messages, with a dot after it.
      mark: Where the overrides were written, if it is not known better.
    """
    block = self._schema.blocks[name]
    right = marks.Marked(marks=getattr(values, 'marks', {}))
    for key, value in values.items():
      at = marks.mark_of(values, key, mark)
      if key not in block.fields:
        self._add(f'{path}{key}', 'no such field'
                  f'{errors.nearest(str(key), block.fields)}', at)
      elif block.one_of and key == 'type':
        if self._chosen(block, value, path, at):
          right[key] = value
      else:
        before = len(self.problems)
        found = self._value(block.fields[key], value, f'{path}{key}', at)
        of_block = block.fields[key].block and isinstance(found, Mapping)
        if len(self.problems) == before or of_block:
          right[key] = found
    return right

  def _add(self, field: str, text: str, mark: marks.Mark | None) -> None:
    self.problems.append(marks.Problem(field, text, mark))

  def _chosen(self, block: fields.Block, value: Any, path: str, mark) -> bool:
    """Checks the field that says which other one counts."""
    choices = [name for name in block.fields if name != 'type']
    if value is None or value in choices if isinstance(
        value, (str, type(None))) else False:
      return True
    raw = mark.raw if mark and mark.raw else str(value)
    self._add(f'{path}type', f'{marks.shown(value)} is not a choice'
              f'{errors.nearest(raw, choices)}', mark)
    return False

  def _value(
      self, field: fields.Field, value: Any, path: str, mark) -> Any:
    """Checks one value; returns it, a block's without what is wrong."""
    if value is None:
      if not field.nullable and 'any' not in field.kinds:
        self._add(path, f'must not be null; expected {_expected(field)}', mark)
      return value
    if isinstance(value, Mapping):
      return self._mapping(field, value, path, mark)
    if isinstance(value, (list, tuple)) and 'list' in field.kinds:
      return self._list(field, value, path, mark)
    if 'any' in field.kinds:
      self._anything(value, path, mark)
    elif not _is_of(value, field.kinds):
      self._add(path, f'expected {_expected(field)}, received '
                f'{marks.shown(value)} ({type(value).__name__})'
                f'{_hint(field, value, mark)}', mark)
    elif problem := broken(field, value):
      self._add(path, problem, mark)
    return value

  def _mapping(self, field: fields.Field, value, path: str, mark) -> Any:
    if field.block:
      return self.block(field.block, value, f'{path}.', mark)
    if not {'any', 'any_fields'} & {*field.kinds}:
      self._add(path, f'expected {_expected(field)}, received a mapping', mark)
    else:
      self._anything(value, path, mark)
    return value

  def _list(self, field: fields.Field, value, path: str, mark) -> Any:
    allowed = field.takes.length
    if allowed and len(value) not in allowed:
      self._add(path, f'must have {" or ".join(map(str, allowed))} elements, '
                f'received {len(value)}: {marks.shown(list(value))}', mark)
      return value
    return [self._value(field.element, item, f'{path}[{index}]', mark)
            for index, item in enumerate(value)]

  def _anything(self, value: Any, path: str, mark) -> None:
    """Checks fields of any name: a configuration has no lists of lists."""
    if isinstance(value, Mapping):
      for key, item in value.items():
        if not isinstance(key, str):
          self._add(path, f'names of fields are texts, received '
                    f'{marks.shown(key)}', mark)
        self._anything(item, f'{path}.{key}', marks.mark_of(value, key, mark))
    elif isinstance(value, (list, tuple)):
      kinds = {isinstance(item, Mapping) for item in value}
      if any(isinstance(item, (list, tuple)) for item in value) or (
          len(kinds) > 1):
        self._add(path, 'expected a list of scalars or of mappings, received '
                  f'{marks.shown(marks.plain(value))}', mark)
      for item in value:
        if isinstance(item, Mapping):
          self._anything(item, path, mark)
    elif isinstance(value, str) and _CONTROL.search(value):
      self._add(path, _control(value), mark)


def broken(field: fields.Field, value: Any) -> str:
  """Says which rule a scalar of the right type breaks, empty for none."""
  takes = field.takes
  if isinstance(value, bool):
    return ''
  if isinstance(value, str):
    if _CONTROL.search(value):
      return _control(value)
    choices = [c for c in field.choices() if isinstance(c, str)]
    if choices and value not in choices:
      return _no_choice(value, choices)
    return _outside(value) if takes.inside else ''
  numbers = [c for c in field.choices() if not isinstance(c, str)]
  if numbers:
    return '' if value in numbers else _no_choice(value, numbers)
  low, high = ranges.INTEGERS
  if isinstance(value, int) and not low <= value <= high:
    return f'must fit in 64 bits, received {marks.shown(value)}'
  if isinstance(value, float) and math.isinf(value) and not (
      takes.range.endswith('inf]')) or value != value:
    return f'must be a finite number, received {value}'
  if takes.range and value not in ranges.parse(takes.range):
    return f'{ranges.parse(takes.range).rule}, received {value}'
  return ''


def _no_choice(value: Any, choices: list[Any]) -> str:
  close = errors.close(str(value), map(str, choices))
  if len(choices) > _MAX_CHOICES and close:
    return f'{marks.shown(value)} is not a choice{close}'
  listed = ', '.join(str(choice) or "''" for choice in choices)
  return (f'must be one of {listed}, received '
          f'{marks.shown(value)}{close}')


def _control(value: str) -> str:
  return ('holds a character that no text here may have, received '
          f'{marks.shown(value)}')


def _outside(value: str) -> str:
  """Says why a name is not one of a place below the run directory."""
  if not value:
    return ''
  parts = re.split(r'[/\\]', value)
  if value[0] in '/\\~' or '://' in value or ':' in value or (
      {'', '.', '..'} & {*parts}):
    return ('must name a directory below the run directory, such as '
            f"'best_ckpt', received {marks.shown(value)}")
  return ''


def _is_of(value: Any, kinds: tuple[str, ...]) -> bool:
  """Whether a scalar is of one of some kinds; an integer is a float, too."""
  if isinstance(value, bool):
    return 'bool' in kinds
  if isinstance(value, int):
    return 'int' in kinds or 'float' in kinds
  return type(value).__name__ in kinds


def _expected(field: fields.Field) -> str:
  """Names what a field takes, for a message."""
  parts = []
  for kind in field.kinds:
    if kind == 'list' and field.element is not None:
      parts.append(f'list of {_expected(field.element)}')
    else:
      parts.append(_NAMES.get(kind, kind))
  return ' or '.join(parts) + (' or null' if field.nullable else '')


def _hint(
    field: fields.Field, value: Any, mark: marks.Mark | None) -> str:
  """Says how to write what YAML reads as something else."""
  raw = mark.raw if mark is not None else ''
  if isinstance(value, bool) and 'str' in field.kinds:
    # Of an element of a list it is not known how it was written.
    return '; a text is quoted: ' + (f"'{raw}'" if raw else "'on', 'off'")
  if isinstance(value, (int, float)) and 'str' in field.kinds:
    return f"; a text is quoted: '{raw or value}'"
  if isinstance(value, str) and value.lower() in _WORDS and (
      'bool' in field.kinds):
    return f'; without quotes it is a bool: {value}'
  if field.block and field.nullable:
    return '; null switches it off, and {} on with its defaults'
  read = marks.shown(value)
  return f'; YAML reads {raw} as {read}' if raw not in ('', read) else ''


def fields_of(
    schema: fields.Schema, name: str, path: str = ''
) -> Iterator[tuple[str, fields.Field]]:
  """Yields the dotted name and the description of every field below a block.

  Args:
    schema: The schema.
    name: Name of the block.
    path: Dotted name of the block, with a dot after it.
  """
  for key, field in schema.blocks[name].fields.items():
    yield f'{path}{key}', field
    if field.block:
      yield from fields_of(schema, field.block, f'{path}{key}.')
    elif field.element is not None and field.element.block:
      yield from fields_of(schema, field.element.block, f'{path}{key}[].')
