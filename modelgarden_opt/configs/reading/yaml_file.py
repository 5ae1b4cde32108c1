"""YAML whose values know their lines, and that means what it says.

The dialect is PyYAML's (YAML 1.1), as the Model Garden reads it, without what
surprises: a key that is there twice, `0x10`, `0100` and `1:30` (which are the
numbers 16, 64 and 90), dates, tags and aliases without end are errors.
"""

from collections.abc import Iterator
import re
from typing import Any

import yaml

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.configs import shipped
from modelgarden_opt.configs.schema import marks

# A configuration is a few kilobytes long, and has a few levels.
MAX_BYTES = 2**20
MAX_DEPTH = 40
MAX_VALUES = 100_000
_TAG = 'tag:yaml.org,2002:'
_NUMBER = re.compile(r'[-+]?(0x[0-9a-fA-F_]+|0b[01_]+|0[0-7_]+|'
                     r'[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)')
# What Python makes of an argument's bytes that are not UTF-8.
_NO_CHARACTER = re.compile('[\ud800-\udfff]')
_UTF_16 = (b'\xff\xfe', b'\xfe\xff')


class _Loader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
  """Resolves scalars: `1e-3` is a number and a date is a text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers
            if tag not in (f'{_TAG}timestamp', f'{_TAG}value')]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}
# What was read can be written again: texts that look like numbers are quoted.
for _class in (_Loader, yaml.SafeDumper):
  _class.add_implicit_resolver(
      f'{_TAG}float',
      re.compile(r'^[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)$'),
      list('-+0123456789.'))
yaml.SafeDumper.add_representer(
    marks.Marked, yaml.SafeDumper.represent_dict)


class _Wrong(Exception):
  """A place in the text that is wrong."""

  def __init__(self, text: str, mark: Any = None):
    super().__init__(text)
    self.text, self.mark = text, mark


def load(path: str) -> dict[str, Any]:
  """Returns a YAML file as a dictionary whose values know their lines.

  Args:
    path: The file. Shipped ones are found as `configs/...` from everywhere.

  Raises:
    UsageError: If it is missing, not YAML, or not a mapping.
  """
  return parse(text_of(path), path)


def text_of(path: str) -> str:
  """Returns the text of a YAML file.

  Args:
    path: See `load`.

  Raises:
    UsageError: If there is no such file, or it is no text of UTF-8.
  """
  if '\0' in path:
    raise errors.UsageError(f'config_file: {path!r} is no path')
  path = shipped.locate(files.expanded(path))
  try:
    if not files.exists(path) or files.is_directory(path):
      raise errors.UsageError(f'config_file: there is no file {path!r}')
    content = files.read_bytes(path, MAX_BYTES + 1)
  except OSError as e:
    raise errors.UsageError(
        f'config_file: {path!r} cannot be read: {e.strerror or e}') from None
  return _decoded(content, path)


def _decoded(content: bytes, name: str) -> str:
  """Returns the text of a file.

  Raises:
    UsageError: If it is too long, or not UTF-8.
  """
  if len(content) > MAX_BYTES:
    raise errors.UsageError(
        f'{name}: has more than {MAX_BYTES:,} bytes, which no configuration '
        'has')
  if content.startswith(_UTF_16):
    raise errors.UsageError(f'{name}: is UTF-16 or UTF-32; save it as UTF-8')
  if b'\0' in content:
    raise errors.UsageError(f'{name}: is not a text file')
  try:
    return content.decode('utf-8-sig')
  except UnicodeDecodeError as e:
    line = content.count(b'\n', 0, e.start) + 1
    raise errors.UsageError(
        f'{name}:{line}: is not UTF-8 (byte {content[e.start]:#04x}); save it '
        'as UTF-8') from None


def parse(text: str, name: str) -> dict[str, Any]:
  """Returns YAML text as a dictionary, see `load`.

  Args:
    text: The text.
    name: What messages call it.

  Raises:
    UsageError: If it is not YAML, or not a mapping.
  """
  if len(text) > MAX_BYTES:
    raise errors.UsageError(
        f'{name}: has more than {MAX_BYTES:,} characters, which no '
        'configuration has')
  if _NO_CHARACTER.search(text):
    raise errors.UsageError(f'{name}: holds bytes that are not UTF-8')
  try:
    values = _Builder(text, name).build()
  except _Wrong as e:
    mark = _mark(name, e.mark)
    raise errors.UsageError(f'{mark}: not valid YAML: {e.text}') from None
  except yaml.YAMLError as e:
    raise errors.UsageError(_of_yaml(e, name)) from None
  if values is None:
    return marks.Marked()
  if not isinstance(values, dict):
    raise errors.UsageError(f'{name}: expected `field: value` pairs, received '
                            f'{marks.shown(marks.plain(values))}')
  return values


def _of_yaml(error: yaml.YAMLError, name: str) -> str:
  """Returns an error of the parser in one line."""
  mark = getattr(error, 'problem_mark', None)
  text = ' '.join(str(part) for part in (
      getattr(error, 'context', None), getattr(error, 'problem', None)) if part)
  if not text:
    text = ' '.join(str(error).split())[:200]
  if "'\\t'" in text or 'cannot start any token' in text:
    text += '; indentation takes spaces, and a text with special characters '
    text += 'quotes'
  return f'{_mark(name, mark)}: not valid YAML: {text}'


def _mark(name: str, mark: Any, raw: str = '') -> marks.Mark:
  if mark is None:
    return marks.Mark(name)
  return marks.Mark(name, mark.line + 1, mark.column + 1, raw)


class _Builder:
  """Makes values of the events of a text, one after the other."""

  def __init__(self, text: str, name: str):
    self._name = name
    self._loader = _Loader(text)
    self._anchors: dict[str, tuple[Any, int]] = {}
    self._count = 0

  def build(self) -> Any:
    """Returns the value of the only document, None if there is none."""
    try:
      found, documents = None, 0
      events = self._events()
      for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
          documents += 1
          if documents > 1:
            raise _Wrong('a second document begins; one file has one',
                         event.start_mark)
          found, _ = self._value(next(events), events, 0)
      return found
    finally:
      self._loader.dispose()

  def _events(self) -> Iterator[yaml.Event]:
    while self._loader.check_event():
      yield self._loader.get_event()

  def _value(self, event, events, depth: int) -> tuple[Any, int]:
    """Returns a value and how many values it holds, itself included."""
    if depth > MAX_DEPTH:
      raise _Wrong(f'is nested more than {MAX_DEPTH} levels deep',
                   event.start_mark)
    if isinstance(event, yaml.AliasEvent):
      if event.anchor not in self._anchors:
        raise _Wrong(f'there is no anchor {event.anchor!r} before it',
                     event.start_mark)
      value, size = self._anchors[event.anchor]
      self._add(size, event)
      return value, size
    self._add(1, event)
    if isinstance(event, yaml.ScalarEvent):
      value, size = self._scalar(event), 1
    elif isinstance(event, yaml.SequenceStartEvent):
      value, size = self._sequence(event, events, depth)
    else:
      value, size = self._mapping(event, events, depth)
    if event.anchor:
      self._anchors[event.anchor] = value, size
    return value, size

  def _add(self, size: int, event) -> None:
    self._count += size
    if self._count > MAX_VALUES:
      raise _Wrong(f'has more than {MAX_VALUES:,} values with its aliases',
                   event.start_mark)

  def _sequence(self, event, events, depth: int) -> tuple[list, int]:
    _assert_no_tag(event, 'seq')
    found, size = [], 1
    for inner in events:
      if isinstance(inner, yaml.SequenceEndEvent):
        break
      value, count = self._value(inner, events, depth + 1)
      found.append(value)
      size += count
    return found, size

  def _mapping(self, event, events, depth: int) -> tuple[marks.Marked, int]:
    _assert_no_tag(event, 'map')
    found, size, merged = marks.Marked(), 1, []
    for inner in events:
      if isinstance(inner, yaml.MappingEndEvent):
        break
      key = self._key(inner, events, depth)
      value_event = next(events)
      value, count = self._value(value_event, events, depth + 1)
      size += count
      if key == '<<' and not inner.style:
        merged += value if isinstance(value, list) else [value]
        if not all(isinstance(item, marks.Marked) for item in merged):
          raise _Wrong('<< expects mappings', value_event.start_mark)
        continue
      if key in found:
        raise _Wrong(
            f'{marks.shown(key)} is there twice, first in line '
            f'{found.marks[key].line}', inner.start_mark)
      found[key] = value
      found.marks[key] = _mark(
          self._name, value_event.start_mark, _raw(value_event, value))
    for below in merged:
      for key, value in below.items():
        if key not in found:
          found[key], found.marks[key] = value, below.marks[key]
    return found, size

  def _key(self, event, events, depth: int) -> str:
    if not isinstance(event, yaml.ScalarEvent):
      raise _Wrong('names of fields are texts; a text that begins with a '
                   'bracket or a brace is quoted', event.start_mark)
    key, _ = self._value(event, events, depth + 1)
    if not isinstance(key, str):
      raise _Wrong(f'names of fields are texts, and {event.value!r} is read as '
                   f'{marks.shown(key)}; quote it', event.start_mark)
    return key

  def _scalar(self, event: yaml.ScalarEvent) -> Any:
    """Returns the value of a scalar."""
    tag = event.tag
    if tag is None or tag == '!':
      tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    kind = tag.removeprefix(_TAG)
    if kind not in _KINDS:
      raise _Wrong(f'tag {tag!r} is not taken', event.start_mark)
    if kind in ('int', 'float') and _NUMBER.fullmatch(event.value) and (
        event.value.strip('+-') != '0'):
      number = f'{_KINDS[kind](event.value):g}'
      raise _Wrong(
          f'{event.value} is {number} to YAML; write that, or quote it if it '
          f"is a text: '{event.value}'", event.start_mark)
    try:
      return _KINDS[kind](event.value)
    except ValueError:
      raise _Wrong(f'{marks.shown(event.value)} is not of type {kind}',
                   event.start_mark) from None


def _assert_no_tag(event, kind: str) -> None:
  if event.tag not in (None, '!', _TAG + kind):
    raise _Wrong(f'tag {event.tag!r} is not taken', event.start_mark)


def _raw(event, value: Any) -> str:
  """Returns what is written where a plain word is read as something else."""
  if isinstance(event, yaml.ScalarEvent) and not event.style and not (
      isinstance(value, str)):
    return event.value if len(event.value) < 40 else ''
  return ''


def _bool(text: str) -> bool:
  return yaml.SafeLoader.bool_values[text.lower()]


def _int(text: str) -> int:
  """Reads an integer as YAML 1.1 does."""
  text = text.replace('_', '')
  sign, digits = (-1 if text.startswith('-') else 1), text.lstrip('+-')
  if ':' in digits:
    return sign * int(_sexagesimal(digits))
  if digits.startswith('0x'):
    return sign * int(digits[2:], 16)
  if digits.startswith('0b'):
    return sign * int(digits[2:], 2)
  return sign * int(digits, 8 if digits.startswith('0') and len(
      digits) > 1 else 10)


def _float(text: str) -> float:
  """Reads a number as YAML 1.1 does."""
  text = text.replace('_', '').lower()
  if ':' in text:
    return (-1 if text.startswith('-') else 1) * _sexagesimal(
        text.lstrip('+-'))
  if text.lstrip('+-') == '.inf':
    return float(text.replace('.', ''))
  return float('nan') if text == '.nan' else float(text)


def _sexagesimal(text: str) -> float:
  value = 0.0
  for part in text.split(':'):
    value = 60 * value + float(part)
  return value


def _bool_or_wrong(text: str) -> bool:
  try:
    return _bool(text)
  except KeyError:
    raise ValueError(text) from None


_KINDS = {'str': str, 'int': _int, 'float': _float, 'bool': _bool_or_wrong,
          'null': lambda _: None, 'merge': str}
