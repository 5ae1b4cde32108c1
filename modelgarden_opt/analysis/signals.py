"""Sums over samples from which errors of a tensor are computed."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf

# Beyond this no error is left that float32 would show.
MOST_DB = 120.0


@dataclasses.dataclass(kw_only=True)
class TensorError:
  """The error of what a layer or an op makes; what it does not have is None.

  Attributes:
    layer: Its name.
    sqnr_db: Signal to quantization noise ratio in dB, with everything before it
      quantized, too.
    clipped: Share of the float values outside of its range, in [0, 1].
    saturated: Share of its integers at an end of the range; of an end that
      stands for 0, which a relu fills, not.
    range_use: Share of its range between the extremes of the float values.
    bias_rounding: Root mean square of what storing its biases as int32 adds to
      them, as a share of that of the float values.
  """
  layer: str
  sqnr_db: float | None = None
  clipped: float | None = None
  saturated: float | None = None
  range_use: float | None = None
  bias_rounding: float | None = None

  def record(self) -> dict[str, Any]:
    """Returns the fields that are known, ready for JSON."""
    return {name: value for name, value in vars(self).items()
            if value is not None}


def energies(reference: tf.Tensor, value: tf.Tensor) -> dict[str, tf.Tensor]:
  """Returns what a batch adds to a ratio of signal and noise.

  Args:
    reference: The tensor in float.
    value: The same tensor with an error.
  """
  return {'signal': tf.reduce_sum(tf.square(reference)),
          'noise': tf.reduce_sum(tf.square(value - reference))}


def sqnr_db(sums: Mapping[str, float]) -> float | None:
  """Returns the signal to quantization noise ratio in dB, at most `MOST_DB`.

  None where there is no signal.

  Args:
    sums: Of `energies` over all batches.
  """
  signal, noise = float(sums['signal']), float(sums['noise'])
  if not signal or not math.isfinite(signal + noise):
    return None
  if not noise:
    return MOST_DB
  return min(MOST_DB, 10.0 * math.log10(signal / noise))


def ratio_db(reference: np.ndarray, value: np.ndarray) -> float | None:
  """Returns the SQNR of an array in dB, see `sqnr_db`."""
  reference, value = reference.astype(np.float64), value.astype(np.float64)
  return sqnr_db({'signal': np.sum(reference**2),
                  'noise': np.sum((value - reference)**2)})
