"""Compares a file with what a delegate takes: rules are data.

A rule says of which delegate it speaks, what it looks at, which properties of
it have which values, what that means, and which option of this package helps.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.evaluation import image_part
from modelgarden_opt.evaluation import model_file

# What a rule looks at -> how it is taken from a file.
_SUBJECTS = {
    'op': lambda file: file.ops,
    'input or output': lambda file: (*file.inputs, *file.outputs),
    'image part': lambda file: (image_part.find(file),),
    'op on images': lambda file: image_part.find(file).ops,
    'op after images': lambda file: image_part.find(file).ops_after,
}
# Those of which a rule speaks once, and of which findings give the number.
_OPS = ('op', 'op on images', 'op after images')
# Places that a finding lists.
_NUM_PLACES = 3


@dataclasses.dataclass(frozen=True)
class In:
  """A value is one of these."""
  values: tuple[Any, ...]

  def __call__(self, value: Any) -> bool:
    return value in self.values


@dataclasses.dataclass(frozen=True)
class NotIn:
  """A value is none of these."""
  values: tuple[Any, ...]

  def __call__(self, value: Any) -> bool:
    return value not in self.values


@dataclasses.dataclass(frozen=True)
class Has:
  """A property with several values has this one among them."""
  value: Any

  def __call__(self, values: Any) -> bool:
    return self.value in values


@dataclasses.dataclass(frozen=True)
class HasOther:
  """A property with several values has one among them that is none of these."""
  values: tuple[Any, ...]

  def __call__(self, values: Any) -> bool:
    return any(value not in self.values for value in values)


@dataclasses.dataclass(frozen=True)
class Above:
  """A number is larger than this."""
  limit: int

  def __call__(self, value: int) -> bool:
    return value > self.limit


@dataclasses.dataclass(frozen=True)
class Below:
  """A number is smaller than this."""
  limit: int

  def __call__(self, value: int) -> bool:
    return value < self.limit


@dataclasses.dataclass(frozen=True)
class NotAbove:
  """A number is this or smaller."""
  limit: float

  def __call__(self, value: float) -> bool:
    return value <= self.limit


@dataclasses.dataclass(frozen=True)
class Rule:
  """What a delegate does not take.

  Attributes:
    delegates: Whose rule it is.
    subject: What it looks at, a key of `_SUBJECTS`.
    where: Property of `model_file.Op`, `model_file.Tensor`,
      `image_part.ImageOp` or `image_part.ImagePart` -> its value, or a test of
      it. All must hold.
    meaning: What that means there.
    remedy: What helps, by the name of an option or field.
    refuses: Whether the tool of that target cannot be run at all.
  """
  delegates: tuple[str, ...]
  subject: str
  where: Mapping[str, Any]
  meaning: str
  remedy: str
  refuses: bool = False

  def matches(self, thing: Any) -> bool:
    """Whether all conditions hold for an op or a tensor."""
    return all(
        test(getattr(thing, name)) if callable(test)
        else getattr(thing, name) == test for name, test in self.where.items())


@dataclasses.dataclass(frozen=True)
class Finding:
  """A rule that a file runs into.

  Attributes:
    delegate: Whose rule it is.
    rule: The rule.
    things: The ops or tensors that it speaks of, in the file's order.
  """
  delegate: str
  rule: Rule
  things: Sequence[Any]

  @property
  def names(self) -> str:
    """Names of the ops, or of the inputs and outputs, each once."""
    return ', '.join(dict.fromkeys(thing.name for thing in self.things))

  def record(self) -> dict[str, Any]:
    """Returns what is worth keeping, ready for JSON."""
    return {
        'delegate': self.delegate,
        'subject': self.rule.subject,
        'names': self.names.split(', '),
        'count': len(self.things),
        'first': [getattr(t, 'where', t.name)
                  for t in self.things[:_NUM_PLACES]],
        'meaning': self.rule.meaning,
        'remedy': self.rule.remedy,
        'text': self.text(),
    }

  def text(self) -> str:
    """Returns a line for people."""
    count = f'{len(self.things)} ' if self.rule.subject in _OPS else ''
    remedy = f' -> {self.rule.remedy}' if self.rule.remedy else ''
    return (f'{self.delegate}: {count}{self.names}: '
            f'{self.rule.meaning}{remedy}')


def check(
    file: model_file.ModelFile, delegates: Iterable[str],
    rules: Sequence[Rule],
) -> list[Finding]:
  """Returns the rules that a file runs into, by delegate.

  An op is listed once a delegate: the first rule that matches speaks. Inputs
  and outputs are listed by every rule.

  Args:
    file: The file.
    delegates: Whose rules to check.
    rules: The rules, those that explain more first.
  """
  found = []
  things_of = functools.cache(lambda subject: _SUBJECTS[subject](file))
  for delegate in delegates:
    told: set[int] = set()
    for rule in rules:
      if delegate not in rule.delegates:
        continue
      things = [t for t in things_of(rule.subject)
                if id(t) not in told and rule.matches(t)]
      if rule.subject in _OPS:
        told |= {id(t) for t in things}
      if things:
        found.append(Finding(delegate, rule, things))
  return found


def assert_runs(
    file: model_file.ModelFile, findings: Iterable[Finding]) -> None:
  """Raises `UsageError` with every finding that forbids to run the tool."""
  refused = [f.text() for f in findings if f.rule.refuses]
  if refused:
    raise errors.UsageError('\n  '.join([f'tflite: {file.path!r}', *refused]))
