"""What a rule is, and how all of them are applied to one configuration."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from modelgarden_opt.configs.schema import marks

# What a check yields: a text about the rule's first field, or about another.
Found = str | tuple[str, str]


class View:
  """A plain configuration whose fields are read as attributes.

  A list of blocks is a list of views; a field that is not there is None.
  """

  __slots__ = ('plain', 'base')

  def __init__(self, values: Mapping[str, Any], base: 'View | None' = None):
    """Initializes the view.

    Args:
      values: The fields; `plain` of the view.
      base: The same block of the experiment without overrides, if known.
    """
    self.plain, self.base = values, base

  def __getattr__(self, name: str) -> Any:
    value = self.plain.get(name)
    if isinstance(value, Mapping):
      base = self.base.plain.get(name) if self.base is not None else None
      return View(value, View(base) if isinstance(base, Mapping) else None)
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
      return [View(item) for item in value]
    return value


@dataclasses.dataclass(frozen=True)
class Rule:
  """A rule.

  Attributes:
    reads: Dotted names of the fields that it is about, the one to change
      first. It is not applied where the block of one of them is off, nor where
      a value of one is wrong by itself.
    check: Yields what breaks the rule, given the whole configuration.
  """
  reads: tuple[str, ...]
  check: Callable[[View], Iterator[Found]]


def reads(*fields: str) -> Callable[[Callable[[View], Iterator[Found]]], Rule]:
  """Returns a decorator that makes a check a rule about some fields."""
  return lambda check: Rule(fields, check)


def apply(
    rules: Iterable[Rule],
    values: Mapping[str, Any],
    base: Mapping[str, Any] | None = None,
    wrong: Sequence[str] = (),
) -> list[marks.Problem]:
  """Returns what is wrong with fields together.

  Args:
    rules: The rules.
    values: A configuration as plain data; blocks may be missing.
    base: The experiment without overrides.
    wrong: Fields that are known to be wrong by themselves.
  """
  view = View(values, View(base) if base is not None else None)
  problems = []
  for rule in rules:
    if all(_is_there(values, path) and not _touched(path, wrong)
           for path in rule.reads):
      for found in rule.check(view):
        field, text = (rule.reads[0], found) if isinstance(
            found, str) else found
        problems.append(marks.Problem(field, text, related=rule.reads))
  return problems


def _is_there(values: Any, path: str) -> bool:
  """Whether the block of a field is on, and has the field."""
  *parents, last = path.split('.')
  for name in parents:
    values = values.get(name) if isinstance(values, Mapping) else None
  return isinstance(values, Mapping) and last in values


def _touched(path: str, wrong: Sequence[str]) -> bool:
  for other in wrong:
    if other == path or other.startswith((f'{path}.', f'{path}[')) or (
        path.startswith(f'{other}.')):
      return True
  return False


def ordered(low: str, high: str) -> Rule:
  """Returns the rule that one field is at most another one.

  Args:
    low: Dotted name of the first field.
    high: Dotted name of the second one, in the same block.
  """
  block, _, name = low.rpartition('.')
  other = high.rpartition('.')[2]

  def check(c: View) -> Iterator[Found]:
    for part in block.split('.'):
      c = getattr(c, part)
    first, second = getattr(c, name), getattr(c, other)
    if first is not None and second is not None and first > second:
      yield f'must be <= {other} {second}, received {first}'

  return Rule((low, high), check)
