"""The text of `--params_override`: YAML, JSON, a file, or `a.b=1,c=2`.

Pairs are separated by commas outside of quotes and brackets. A value is what
YAML reads in it: `a=1`, `a=[1, 2]`, `a={b: 1}`, `a='x,y'`, `a=null`; an empty
text is `a=''`. A field is set once, and a list as a whole.
"""

from collections.abc import Iterator
import re
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.configs.reading import yaml_file
from modelgarden_opt.configs.schema import marks

_PAIR = re.compile(r'\s*([A-Za-z_][\w.\-]*)\s*(\[[^\]=]*\])?\s*=(.*)',
                   re.DOTALL)
_BRACKETS = {'[': ']', '{': '}'}
_QUOTED = re.compile(r"'(?:[^']|'')*'" r'|"(?:[^"\\]|\\.)*"', re.DOTALL)
# What a quoted text follows, elsewhere quotes are characters as any other.
_BEFORE_VALUES = ('=', ',', '[', '{', ':')


def parse(text: str, name: str) -> dict[str, Any]:
  """Returns overrides.

  Args:
    text: What follows the flag.
    name: Name of the flag.

  Raises:
    UsageError: If it is none of what a flag takes.
  """
  if len(text) > yaml_file.MAX_BYTES:
    raise errors.UsageError(f'{name}: is longer than any configuration')
  if not text.strip():
    return marks.Marked()
  if _PAIR.fullmatch(text):
    return _of_pairs(text, name)
  if text.endswith(('.yaml', '.yml', '.json')) and ':' not in text:
    return yaml_file.load(text)
  return yaml_file.parse(text, name)


def _of_pairs(text: str, name: str) -> dict[str, Any]:
  found = marks.Marked()
  for pair in _split(text, name):
    match = _PAIR.fullmatch(pair)
    if match is None:
      raise errors.UsageError(
          f'{name}: expected field=value, received {marks.shown(pair)}; a '
          "value with commas is quoted: a='x,y'")
    field, index, value = match[1], match[2], match[3].strip()
    if index:
      raise errors.UsageError(
          f'{name}: {field}{index}: an element is not set by itself; give the '
          f'whole list: {field}=[...]')
    if not value:
      raise errors.UsageError(
          f"{name}: {field}: has no value; write {field}='' for an empty text "
          f'or {field}=null')
    _set(found, field, _value(value, name, field), name)
  return found


def _value(text: str, name: str, field: str) -> tuple[Any, marks.Mark]:
  """Returns what YAML reads in a value, and what it was."""
  try:
    held = yaml_file.parse(f'value: {text}' if '\n' not in text else
                           f'value:\n  {text}', name)
  except errors.UsageError as e:
    what = str(e).rpartition('not valid YAML: ')[2]
    raise errors.UsageError(
        f'{name}: {field}: {marks.shown(text)} is not a value: {what}'
    ) from None
  return held['value'], marks.Mark(name, raw=held.marks['value'].raw)


def _set(found: marks.Marked, field: str, value, name: str) -> None:
  """Puts a value where a dotted name leads."""
  *parents, last = field.split('.')
  if not all((*parents, last)):
    raise errors.UsageError(f'{name}: {field!r} is not the name of a field')
  for parent in parents:
    found.marks.setdefault(parent, marks.Mark(name))
    found = found.setdefault(parent, marks.Marked())
    if not isinstance(found, marks.Marked):
      raise errors.UsageError(f'{name}: {field} is set twice')
  if last in found:
    raise errors.UsageError(f'{name}: {field} is set twice')
  found[last], found.marks[last] = value


def _split(text: str, name: str) -> Iterator[str]:
  """Yields the pairs of a text."""
  closing, start, at, before = [], 0, 0, ''
  while at < len(text):
    character, end = text[at], at + 1
    if character in '"\'' and before in _BEFORE_VALUES:
      quoted = _QUOTED.match(text, at)
      if quoted is None:
        raise _unfinished(character, text, name)
      end = quoted.end()
    elif character in _BRACKETS:
      closing.append(_BRACKETS[character])
    elif closing and character == closing[-1]:
      closing.pop()
    elif character == '#' and text[at - 1:at].isspace():
      raise errors.UsageError(
          f"{name}: ' #' begins a comment, which would be left out of "
          f"{marks.shown(text)}; a value with it is quoted: a='x #y'")
    elif character == ',' and not closing:
      yield text[start:at]
      start = end
    before = before if character.isspace() else character
    at = end
  if closing:
    raise _unfinished(closing[-1], text, name)
  yield text[start:]


def _unfinished(missing: str, text: str, name: str) -> errors.UsageError:
  return errors.UsageError(
      f'{name}: {missing} is missing at the end of {marks.shown(text)}')
