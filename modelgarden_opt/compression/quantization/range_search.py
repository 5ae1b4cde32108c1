"""The activation range that loses least, found on a histogram.

Ranges are fractions of what the values cover: every end in turn is moved over
a geometric grid while the other one stays. What is lost is one function of the
histogram and a range.
"""

from collections.abc import Callable

import numpy as np

from modelgarden_opt.compression.quantization import histogram as histogram_lib

# What a range loses: `loss(centers, counts, low, high, num_bits)`.
Loss = Callable[[np.ndarray, np.ndarray, float, float, int], float]

# Neighbours differ by 4 %, which changes the step by as much.
FRACTIONS = np.geomspace(1.0, 1.0 / 32.0, 81)
# Passes over both ends; the second one seldom moves an end.
_PASSES = 2


def grid(low: float, high: float, num_bits: int) -> tuple[float, float, float]:
  """Returns step and ends of the grid that a range stands for.

  The ends are moved so that zero is on the grid, as TensorFlow's fake
  quantization does.

  Args:
    low: Lower end, <= 0.
    high: Upper end, >= 0, and not both are 0.
    num_bits: Bits of the grid.
  """
  levels = 2**num_bits - 1
  step = (high - low) / levels
  below = np.clip(np.floor(-low / step + 0.5), 0, levels)
  return step, -below * step, (levels - below) * step


def squared_error(
    centers: np.ndarray,
    counts: np.ndarray,
    low: float,
    high: float,
    num_bits: int,
) -> float:
  """Returns the sum of the squared errors of fake quantization.

  Source: Nagel et al., "A White Paper on Neural Network Quantization",
  arXiv:2106.08295, section 3.1.

  Args:
    centers: Values [n].
    counts: How often each of them occurs [n].
    low: Lower end of the range, <= 0.
    high: Upper end, >= 0.
    num_bits: Bits of the grid.
  """
  step, low, high = grid(low, high, num_bits)
  rounded = np.round(np.clip(centers, low, high) / step) * step
  return float(np.sum(counts * (rounded - centers)**2))


def divergence(
    centers: np.ndarray,
    counts: np.ndarray,
    low: float,
    high: float,
    num_bits: int,
) -> float:
  """Returns the KL divergence of the quantized values from the clipped ones.

  What lies outside of the range counts in its outermost bins in the
  distribution of the values, and not at all in the quantized one, in which all
  bins of a level that hold values have the same share. Source: Migacz, "8-bit
  Inference with TensorRT", GPU Technology Conference 2017; there with one
  threshold for magnitudes.

  Args:
    centers: Values [n] in rising order.
    counts: How often each of them occurs [n].
    low: Lower end of the range, <= 0.
    high: Upper end, >= 0.
    num_bits: Bits of the grid.

  Returns:
    The divergence in nats, infinite if no value is in the range.
  """
  step, low, high = grid(low, high, num_bits)
  inside = (centers >= low) & (centers <= high)
  if not inside.any():
    return np.inf
  kept = counts[inside].astype(np.float64)
  levels = np.round((centers[inside] - low) / step).astype(np.int64)
  level_mass = np.bincount(levels, kept)
  quantized = level_mass[levels] / np.bincount(levels)[levels]
  values = kept
  values[0] += counts[centers < low].sum()
  values[-1] += counts[centers > high].sum()
  values, quantized = values / values.sum(), quantized / quantized.sum()
  return float(np.sum(values * np.log(values / quantized)))


def search(
    histogram: histogram_lib.Histogram,
    loss: Loss,
    num_bits: int,
    lower: float | None = None,
) -> tuple[float, float]:
  """Returns the range that loses least.

  Args:
    histogram: Of the values.
    loss: What a range loses.
    num_bits: Bits of the grid.
    lower: The lower end, if it is known.

  Returns:
    Lower and upper end, the widest of equally good ones.
  """
  low = histogram.low if lower is None else lower
  high = histogram.high
  centers, counts = histogram.filled()
  if not centers.size:
    return low, high

  def best(candidates) -> tuple[float, float]:
    losses = [loss(centers, counts, *ends, num_bits) if ends[0] < ends[1]
              else np.inf for ends in candidates]
    return candidates[int(np.argmin(losses))]

  widest_low, widest_high = low, high
  for _ in range(_PASSES):
    low, high = best([(low, end) for end in widest_high * FRACTIONS])
    if lower is None:
      low, high = best([(end, high) for end in widest_low * FRACTIONS])
  return low, high
