"""How often a tensor had which value, in memory of constant size."""

import numpy as np

from modelgarden_opt import errors

# Bins at each side of zero. The width doubles when a value lies outside, so at
# least half of them are in use on the side of the largest magnitude.
_SIDE = 4096
# A power of two: the bins of a wider histogram are unions of those before.
_SMALLEST_WIDTH = 2.0**-32


class Histogram:
  """Counts values in bins of equal width, which grows with the values.

  Widths are powers of two and edges are multiples of them, so a wider
  histogram is exactly that of the same values, in whatever order they came.

  Attributes:
    low: Smallest value, 0 included.
    high: Largest value, 0 included.
    num_zeros: How often the value was exactly 0. Counted apart: a ReLU makes
      half of all values zeros, and every grid holds zero.
    width: Width of a bin.
  """

  def __init__(self):
    self.low = self.high = 0.0
    self.num_zeros = 0
    self.width = _SMALLEST_WIDTH
    self._counts = np.zeros(2 * _SIDE, np.int64)

  def add(self, values: np.ndarray) -> None:
    """Counts the values of an array.

    Args:
      values: Floats in any shape.

    Raises:
      Failure: If one of them is not finite.
    """
    values = np.asarray(values, np.float32).ravel()
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
      raise errors.Failure(
          'calibration: the model computes values that are not finite')
    self.low, self.high = min(self.low, low), max(self.high, high)
    # The last bin ends before its upper edge.
    while max(-low, high) >= _SIDE * self.width:
      self._widen()
    others = values[values != 0.0]
    self.num_zeros += values.size - others.size
    bins = np.floor(others * np.float32(1.0 / self.width)).astype(np.int32)
    self._counts += np.bincount(bins + _SIDE, minlength=2 * _SIDE)

  def _widen(self) -> None:
    """Makes one bin of two."""
    self.width *= 2.0
    pairs = self._counts.reshape(-1, 2).sum(axis=1)
    self._counts = np.pad(pairs, _SIDE // 2)

  def filled(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns the centers of the bins that hold values, and their counts."""
    bins = np.flatnonzero(self._counts)
    return (bins - _SIDE + 0.5) * self.width, self._counts[bins]

  def percentile(self, percent: float) -> float:
    """Returns a value that so many percent of all values do not exceed.

    It is exact to the width of a bin, and 0 and 100 percent are exact.

    Args:
      percent: In [0, 100].
    """
    if percent <= 0.0:
      return self.low
    centers, counts = self.filled()
    edges = np.append(centers + 0.5 * self.width, 0.0)
    counts = np.append(counts, self.num_zeros)
    order = np.argsort(edges, kind='stable')
    reached = np.cumsum(counts[order])
    needed = percent / 100.0 * reached[-1]
    found = edges[order][min(np.searchsorted(reached, needed),
                             len(reached) - 1)]
    return float(np.clip(found, self.low, self.high))
