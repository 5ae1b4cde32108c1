"""Differences in accuracy of two models that predicted the same examples."""

import dataclasses
import math
from typing import Any

import numpy as np

# Quantile of the normal distribution at 97.5 %.
_Z = 1.959964


@dataclasses.dataclass(frozen=True)
class Difference:
  """A difference of two shares with its 95 % confidence interval.

  Attributes:
    value: Share of the first model minus that of the second, in [-1, 1].
    low: Lower end of the interval.
    high: Upper end of the interval.
  """
  value: float
  low: float
  high: float

  def record(self) -> dict[str, Any]:
    """Returns the fields of a record."""
    return dataclasses.asdict(self)

  def __str__(self) -> str:
    return (f'{100 * self.value:+.2f} [{100 * self.low:+.2f}, '
            f'{100 * self.high:+.2f}]')


def difference(a: np.ndarray, b: np.ndarray) -> Difference:
  """Returns how much more often one model is right than another.

  The interval is that of Agresti & Min (Statistics in Medicine 24, 2005): the
  normal one after half an example more in each of the four cells of the table
  right/wrong by right/wrong. It does not collapse where the models agree on
  every example.

  Args:
    a: bool array [n], where the first model is right.
    b: bool array [n], where the second is right, example by example.

  Raises:
    ValueError: If the arrays do not pair or are empty.
  """
  a, b = np.asarray(a, bool), np.asarray(b, bool)
  if a.shape != b.shape or a.ndim != 1 or not a.size:
    raise ValueError(f'predictions do not pair: {a.shape} and {b.shape}')
  only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
  n = len(a) + 2
  center = (only_a - only_b) / n
  spread = _Z * math.sqrt((only_a + only_b + 1) / n - center**2) / math.sqrt(n)
  return Difference((only_a - only_b) / len(a), center - spread,
                    center + spread)
