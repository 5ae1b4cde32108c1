"""Values that know where in which file they were written."""

from collections.abc import Mapping
import dataclasses
from typing import Any

# Longer values are shortened in messages.
_MAX_SHOWN = 60


@dataclasses.dataclass(frozen=True)
class Mark:
  """A place in a file.

  Attributes:
    source: Name of the file, or of the flag.
    line: Its line, from 1; 0 if there is none.
    column: Its column, from 1.
    raw: What is written there, where YAML reads something else in it.
  """
  source: str
  line: int = 0
  column: int = 0
  raw: str = ''

  def __str__(self) -> str:
    if not self.line:
      return self.source
    return f'{self.source}:{self.line}:{self.column}'


class Marked(dict):
  """A mapping that knows where the value of every key was written.

  Attributes:
    marks: The places by key; a list has that of its first element's line.
  """

  def __init__(self, values=(), marks: Mapping[Any, Mark] | None = None):
    super().__init__(values)
    self.marks = dict(marks or {})


def mark_of(values: Any, key: Any, otherwise: Mark | None) -> Mark | None:
  """Returns where the value of a key was written, if it is known."""
  return getattr(values, 'marks', {}).get(key, otherwise)


def plain(value: Any) -> Any:
  """Returns a value without marks."""
  if isinstance(value, Mapping):
    return {key: plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  return value


def shown(value: Any) -> str:
  """Returns a value for a message, shortened if it is long."""
  try:
    text = repr(value)
  except ValueError:  # An integer of thousands of digits.
    return 'an integer of more than 4,300 digits'
  if len(text) <= _MAX_SHOWN:
    return text
  return f'{text[:_MAX_SHOWN]}... ({len(text):,} characters)'


@dataclasses.dataclass(frozen=True)
class Problem:
  """Something that is wrong with a configuration.

  Attributes:
    field: Dotted name of the field, empty for a whole file.
    text: Rule, value, and what would be right.
    mark: Where it was written, if it is known.
    related: Fields that the rule is about, if it is about several.
  """
  field: str
  text: str
  mark: Mark | None = None
  related: tuple[str, ...] = ()

  def __str__(self) -> str:
    return printable(': '.join(str(part) for part in (
        self.mark, self.field, self.text) if part))


def printable(text: str) -> str:
  """Returns a text in one line, without characters that move a cursor."""
  return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)
