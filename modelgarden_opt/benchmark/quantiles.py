"""Quantiles of measurements with confidence intervals."""

from collections.abc import Mapping
from collections.abc import Sequence
import math

import numpy as np

from modelgarden_opt import ratios

# Names of the reported ones in records.
REPORTED: Mapping[str, float] = {'median': 0.5, 'p90': 0.9, 'p99': 0.99}


def interval(
    values: Sequence[float], share: float
) -> tuple[float | None, float | None]:
  """Returns the 95 % confidence interval of a quantile.

  It is that of the order statistics: which of n sorted values lie on either
  side of the quantile is binomial, whatever their distribution is. Values are
  taken as independent. Source: David & Nagaraja, Order Statistics, 7.1.

  Args:
    values: The measurements.
    share: Share of values below the quantile, in (0, 1).

  Returns:
    Its ends, each None where no value reaches so far: of the 99th percentile,
    there is an upper one from 368 values on.
  """
  n, tail = len(values), (1.0 - ratios.CONFIDENCE) / 2.0
  below = np.cumsum([_probability(k, n, share) for k in range(n + 1)])
  ordered = np.sort(values)
  low = int(np.searchsorted(below, tail, side='right'))
  high = int(np.searchsorted(below, 1.0 - tail))
  return (float(ordered[low - 1]) if low else None,
          float(ordered[high]) if high < n else None)


def _probability(k: int, n: int, share: float) -> float:
  """Returns how probable it is that k of n values lie below the quantile."""
  return math.exp(
      math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) +
      k * math.log(share) + (n - k) * math.log1p(-share))


def record(milliseconds: Sequence[float]) -> dict[str, float | None]:
  """Returns `median_ms`, `median_ms_low`, `median_ms_high`, ... and `min_ms`.
  """
  found = {}
  for name, share in REPORTED.items():
    key = f'{name}_ms'
    found[key] = float(np.quantile(milliseconds, share))
    found[f'{key}_low'], found[f'{key}_high'] = interval(milliseconds, share)
  return {**found, 'min_ms': float(np.min(milliseconds))}
