"""Calibration methods: from what passes a quantizer to its range.

    @observers.METHODS.register('largest_batch')
    class LargestBatch(observers.Observer):
      ...

and `calibration_method: largest_batch`, in the block or in a rule.
"""

import abc
import dataclasses

import tensorflow as tf

from modelgarden_opt import registry
from modelgarden_opt.compression.quantization import fake_quant
from modelgarden_opt.compression.quantization import histogram
from modelgarden_opt.compression.quantization import range_search

# Name -> class of observer.
METHODS = registry.Registry('calibration method')


@dataclasses.dataclass(frozen=True)
class Known:
  """What is known of a range before anything was observed.

  Attributes:
    num_bits: Bits of the integer grid.
    lower: The lower end, or None.
    percentile: Percent of the values that the upper end covers, see
      `configs.quantization`.
  """
  num_bits: int = 8
  lower: float | None = None
  percentile: float = 99.99


class Observer(abc.ABC):
  """Observes one tensor during a calibration, in memory of constant size."""

  def __init__(self, known: Known):
    self.known = known

  @abc.abstractmethod
  def observe(self, x: tf.Tensor) -> None:
    """Takes in the values of a tensor; a batch may bring several of them.

    Args:
      x: Eager float tensor of known rank.
    """

  def end_batch(self) -> None:  # noqa: B027, most methods need not know.
    """Is told that what comes next is of another batch."""

  @abc.abstractmethod
  def ends(self) -> tuple[float, float] | None:
    """Returns lower and upper end of the range, None if nothing was observed.

    The lower end does not count where it is known.
    """


@METHODS.register('min_max')
class Extremes(Observer):
  """The extremes over all batches."""

  _ends: tuple[float, float] | None = None

  def observe(self, x: tf.Tensor) -> None:
    high = float(fake_quant.extreme(x, tf.raw_ops.Max))
    low = 0.0
    if self.known.lower is None:
      low = float(fake_quant.extreme(x, tf.raw_ops.Min))
    self._ends = _union(self._ends, (low, high))

  def ends(self) -> tuple[float, float] | None:
    return self._ends


@METHODS.register('moving_average')
class MeanExtremes(Extremes):
  """The plain mean of the batches' extremes."""

  def __init__(self, known: Known):
    super().__init__(known)
    self._sums, self._num_batches = (0.0, 0.0), 0

  def end_batch(self) -> None:
    if self._ends is None:
      return
    (low, high), self._ends = self._ends, None
    # Every range holds 0, also that of a batch.
    low, high = min(low, 0.0), max(high, 0.0)
    self._sums = (self._sums[0] + low, self._sums[1] + high)
    self._num_batches += 1

  def ends(self) -> tuple[float, float] | None:
    if not self._num_batches:
      return None
    low, high = self._sums
    return low / self._num_batches, high / self._num_batches


class HistogramObserver(Observer):
  """A range found in a histogram of all values."""

  def __init__(self, known: Known):
    super().__init__(known)
    self._histogram = histogram.Histogram()
    self._observed = False

  def observe(self, x: tf.Tensor) -> None:
    self._histogram.add(x.numpy())
    self._observed = True

  def ends(self) -> tuple[float, float] | None:
    return self.of(self._histogram) if self._observed else None

  @abc.abstractmethod
  def of(self, found: histogram.Histogram) -> tuple[float, float]:
    """Returns lower and upper end of the range of a histogram."""


@METHODS.register('percentile')
class Percentile(HistogramObserver):
  """Leaves the same share of the values outside at each unknown end."""

  def of(self, found: histogram.Histogram) -> tuple[float, float]:
    percent = self.known.percentile
    return found.percentile(100.0 - percent), found.percentile(percent)


class LeastLoss(HistogramObserver):
  """The range that loses least."""

  loss: range_search.Loss

  def of(self, found: histogram.Histogram) -> tuple[float, float]:
    return range_search.search(
        found, self.loss, self.known.num_bits, self.known.lower)


@METHODS.register('mse')
class LeastSquaredError(LeastLoss):
  """The range with the least squared error of fake quantization."""

  loss = staticmethod(range_search.squared_error)


@METHODS.register('entropy')
class LeastDivergence(LeastLoss):
  """The range with the least KL divergence of what it makes of the values."""

  loss = staticmethod(range_search.divergence)


def _union(
    first: tuple[float, float] | None, second: tuple[float, float]
) -> tuple[float, float]:
  if first is None:
    return second
  return min(first[0], second[0]), max(first[1], second[1])
