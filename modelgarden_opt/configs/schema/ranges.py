"""Ranges of numbers, written as documents write them: `[0, 1)`, `>= 1`."""

import dataclasses
import functools
import math
import re

_INTERVAL = re.compile(r'([\[(])\s*(\S+)\s*,\s*(\S+)\s*([\])])')
_BOUND = re.compile(r'(>=|>|<=|<)\s*(\S+)')
_SPAN = re.compile(r'(-?\d+) to (-?\d+)')
# What variables and files of TensorFlow hold.
INTEGERS = (-2**63, 2**63 - 1)


@dataclasses.dataclass(frozen=True)
class Range:
  """A range of numbers.

  Attributes:
    text: How it is written.
    low: Lower end.
    high: Upper end.
    with_low: Whether it includes the lower end.
    with_high: Whether it includes the upper end.
  """
  text: str
  low: float = -math.inf
  high: float = math.inf
  with_low: bool = False
  with_high: bool = False

  def __contains__(self, value: float) -> bool:
    if value != value:  # Not a number.
      return False
    above = value >= self.low if self.with_low else value > self.low
    return above and (
        value <= self.high if self.with_high else value < self.high)

  @property
  def rule(self) -> str:
    """What a value must do, for a message."""
    return f'must be {self.text}' if self.text[:1] in '<>' else (
        f'must lie in {self.text}')


@functools.cache
def parse(text: str) -> Range:
  """Returns the range that a text describes.

  Args:
    text: `[0, 1)`, `(0, 1]`, `>= 1`, `> 0`, `<= 0` or `2 to 8`.

  Raises:
    ValueError: If it describes none.
  """
  if found := _INTERVAL.fullmatch(text):
    return Range(text, float(found[2]), float(found[3]),
                 found[1] == '[', found[4] == ']')
  if found := _SPAN.fullmatch(text):
    return Range(text, int(found[1]), int(found[2]), True, True)
  if found := _BOUND.fullmatch(text):
    end, included = float(found[2]), found[1].endswith('=')
    if found[1][0] == '>':
      return Range(text, low=end, with_low=included)
    return Range(text, high=end, with_high=included)
  raise ValueError(f'{text!r} is not a range')
