"""Paired ratios of interleaved measurements, and what they show."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import numpy as np

CONFIDENCE = 0.95
# A ratio this close to 1, with its whole interval, is noise.
NOISE = 0.03
# Quantiles of Student's t at 97.5 % by the number of values.
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


@dataclasses.dataclass(frozen=True)
class Ratio:
  """The median of paired ratios with its 95 % confidence interval.

  Attributes:
    value: The median.
    low: Lower end of the interval; None if it is not known.
    high: Upper end of the interval; None if it is not known.
    rounds: Number of pairs; 0 if it is not known.
  """
  value: float
  low: float | None = None
  high: float | None = None
  rounds: int = 0

  @classmethod
  def of_record(cls, record: Mapping[str, Any]) -> 'Ratio':
    """Returns the ratio that a record of `benchmark` holds."""
    return cls(record['ratio'], record.get('ratio_low'),
               record.get('ratio_high'), record.get('ratio_rounds', 0))

  def record(self) -> dict[str, Any]:
    """Returns the fields of a record."""
    return {'ratio': self.value, 'ratio_low': self.low,
            'ratio_high': self.high, 'ratio_rounds': self.rounds}

  @property
  def decided(self) -> bool:
    """Whether the interval excludes 1."""
    return self.low is not None and not self.low <= 1.0 <= self.high

  @property
  def within_noise(self) -> bool:
    """Whether the interval contains 1 and nothing that is far from it."""
    return self.low is not None and not self.decided and (
        self.low >= 1.0 - NOISE and self.high <= 1.0 + NOISE)

  @property
  def rounds_missing(self) -> int:
    """Rounds to go until the interval excludes 1 or is within the noise.

    An estimate: the width of an interval is proportional to one over the
    square root of the number of rounds. 0 if no more are needed, or nothing is
    known.
    """
    if self.low is None or self.decided or self.within_noise:
      return 0
    distance = abs(self.value - 1.0)
    wanted = max(distance, NOISE - distance)
    half = (self.high - self.low) / 2.0
    return max(1, math.ceil(self.rounds * ((half / wanted)**2 - 1.0)))

  def __str__(self) -> str:
    if self.rounds == 1:
      return f'{self.value:.2f}x (one sample)'
    if self.low is None or self.low == self.high:
      return f'{self.value:.2f}x'
    digits = 2
    if self.high - self.low < 0.02 or self.decided and '1.00' in (
        f'{self.low:.2f}', f'{self.high:.2f}'):
      digits = 3  # Or it would look as if it contained 1.
    text = (f'{self.value:.{digits}f}x [{self.low:.{digits}f}, '
            f'{self.high:.{digits}f}]')
    if self.within_noise:
      return f'{text} (within noise)'
    if self.rounds_missing:
      more = 'round' if self.rounds_missing == 1 else 'rounds'
      return f'{text} ({self.rounds_missing:,} more {more} needed)'
    return text


def paired(a: Sequence[float], b: Sequence[float]) -> Ratio:
  """Returns the median of a / b and its confidence interval.

  The interval is that of the order statistics, interpolated between the two
  ranks on either side of 95 % (Hettmansperger & Sheather, Statistics &
  Probability Letters 4, 1986). It assumes no distribution, and it holds at ten
  rounds, where a bootstrap of the median does not always. Below six rounds no
  ranks reach 95 %; the interval is Student's, of the logarithms.

  Args:
    a: Positive measurements.
    b: Measurements that were interleaved with them, one for each.

  Raises:
    ValueError: If there are none, they do not pair, or one is not positive.
  """
  a, b = np.asarray(a, float), np.asarray(b, float)
  if a.shape != b.shape or a.ndim != 1 or not a.size:
    raise ValueError(f'measurements do not pair: {a.shape} and {b.shape}')
  if not (np.all(a > 0) and np.all(b > 0)):
    raise ValueError('measurements must be positive')
  ratios = np.sort(a / b)
  low, high = _interval(ratios)
  return Ratio(float(np.median(ratios)), low, high, len(ratios))


def _interval(ratios: np.ndarray) -> tuple[float | None, float | None]:
  """Returns the confidence interval of the median of sorted ratios."""
  n = len(ratios)
  if n == 1:
    return None, None
  if n in _STUDENT:
    logs = np.log(ratios)
    half = _STUDENT[n] * np.std(logs, ddof=1) / math.sqrt(n)
    return (float(np.exp(np.mean(logs) - half)),
            float(np.exp(np.mean(logs) + half)))
  rank = next(k for k in range(n // 2, 0, -1) if _coverage(k, n) >= CONFIDENCE)
  wide, narrow = _coverage(rank, n), _coverage(rank + 1, n)
  share = (wide - CONFIDENCE) / (wide - narrow)
  weight = (n - rank) * share / (rank + (n - 2 * rank) * share)
  return (float((1 - weight) * ratios[rank - 1] + weight * ratios[rank]),
          float((1 - weight) * ratios[n - rank] +
                weight * ratios[n - rank - 1]))


def _coverage(rank: int, n: int) -> float:
  """Returns how often a median lies between a rank and its mirror image."""
  return 1.0 - 2.0 * sum(math.comb(n, i) for i in range(rank)) / 2.0**n
