"""Sums over samples from which errors of a tensor are computed."""

from collections.abc import Mapping
import math

import numpy as np
import tensorflow as tf

# Beyond this no error is left that float32 would show.
MOST_DB = 120.0


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
