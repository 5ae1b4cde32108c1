"""AdaRound: which weights to round up and which down.

Rounding to nearest minimizes the error of a kernel, not that of what its layer
computes. Here one number for every weight moves between its two neighbours on
the grid, and gradient descent finds what minimizes the squared error of the
outputs; a term with a falling exponent drives the numbers to 0 or 1.

Source: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training
Quantization", arXiv:2004.10568, section 3. The error is computed from second
moments (equation 9), of float and quantized inputs (the asymmetric form of
section 3.3), without the layer's activation function.
"""

import dataclasses

import numpy as np
import tensorflow as tf

# Of the rectified sigmoid, section 3.2.
_LOW, _HIGH = -0.1, 1.1
# Weights nearer to an integer than this many steps stay there.
_ON_GRID = 1e-4


@dataclasses.dataclass(frozen=True)
class Settings:
  """How the numbers are found.

  Attributes:
    steps: Steps of Adam.
    learning_rate: Its rate.
    weight: Weight of the term that drives to 0 or 1, beside an error that is 1
      for rounding to nearest.
    first_power: Exponent of that term at the beginning.
    last_power: At the end.
    warm_up: Share of the steps without that term.
  """
  steps: int = 1000
  learning_rate: float = 0.02
  weight: float = 0.01
  first_power: float = 20.0
  last_power: float = 2.0
  warm_up: float = 0.2


SETTINGS = Settings()


def round_weights(
    weights: np.ndarray,
    step: np.ndarray,
    largest: float,
    of_quantized: np.ndarray,
    of_both: np.ndarray,
    settings: Settings = SETTINGS,
) -> np.ndarray:
  """Returns the integers of a kernel.

  A column (an output channel) for which nothing better is found is rounded to
  nearest. Weights on the grid stay there, so zeros stay zeros.

  Args:
    weights: float array [groups, inputs, outputs].
    step: What an integer is worth, broadcast to the weights, > 0.
    largest: The largest integer; the smallest is its negative.
    of_quantized: See `moments.Moments`, [groups, inputs, inputs].
    of_both: Likewise.
    settings: How they are found.

  Returns:
    float64 array of whole numbers, of the weights' shape.
  """
  weights = weights.astype(np.float64)
  step = np.broadcast_to(step, weights.shape).astype(np.float64)
  scaled = weights / step
  down = np.floor(scaled)
  nearest = np.clip(np.round(scaled), -largest, largest)
  target = of_both @ weights
  base = _error(nearest * step, of_quantized, target)
  # Between the error of nearest rounding and the least of any real weights.
  least = _least(of_quantized, target)
  worth = 1.0 / np.maximum(base - least, 1e-12 * np.abs(base) + 1e-30)
  up = _up(scaled - down, down, step, largest, of_quantized, target, worth,
           settings)
  free = np.abs(scaled - np.round(scaled)) > _ON_GRID
  up = _flip(up, free, down, step, largest, of_quantized, target)
  chosen = np.clip(down + up, -largest, largest)
  better = _error(chosen * step, of_quantized, target) < base
  return np.where(better[:, np.newaxis], chosen, nearest)


def _flip(up, free, down, step, largest, of_quantized, target) -> np.ndarray:
  """Turns the weight of each column that helps most, until none does."""
  groups, inputs, _ = np.ogrid[tuple(slice(n) for n in up.shape)]
  diagonal = np.diagonal(of_quantized, axis1=1, axis2=2)[..., np.newaxis]
  values = np.clip(down + up, -largest, largest) * step
  gradient = of_quantized @ values - target
  for _ in range(up.shape[1]):
    turned = np.clip(down + 1.0 - up, -largest, largest) * step - values
    change = np.where(
        free, turned * (2.0 * gradient + turned * diagonal), 0.0)
    best = np.argmin(change, axis=1, keepdims=True)
    helps = np.take_along_axis(change, best, axis=1) < 0.0
    if not helps.any():
      break
    moved = np.where((inputs == best) & helps, turned, 0.0)
    up = np.where((inputs == best) & helps, 1.0 - up, up)
    values = values + moved
    gradient = gradient + np.sum(moved, axis=1, keepdims=True) * (
        of_quantized[groups, inputs, best])
  return up


def _error(values, of_quantized, target) -> np.ndarray:
  """Returns the squared error by column [groups, outputs], up to a constant."""
  return np.sum(values * (of_quantized @ values - 2.0 * target), axis=1)


def _least(of_quantized: np.ndarray, target: np.ndarray) -> np.ndarray:
  """Returns the least error that columns of real numbers can have."""
  size = of_quantized.shape[-1]
  scale = np.trace(of_quantized, axis1=1, axis2=2) / size
  ridge = (1e-6 * scale + 1e-30)[:, np.newaxis, np.newaxis] * np.eye(size)
  best = np.linalg.solve(of_quantized + ridge, target)
  return _error(best, of_quantized, target)


def _up(fraction, down, step, largest, of_quantized, target, worth, settings):
  """Returns 1 for every weight that is rounded up, else 0."""
  def as_float(x):
    return tf.constant(x, tf.float32)

  free = as_float(np.abs(fraction - np.round(fraction)) > _ON_GRID)
  start = np.clip(fraction, 0.01, 0.99)
  start = (start - _LOW) / (_HIGH - _LOW)
  position = as_float(np.log(start / (1.0 - start)))
  # In units of the error of nearest rounding; Adam sees columns as equals.
  found = _descend(
      position, as_float(np.round(fraction)), free, as_float(down),
      as_float(step * np.sqrt(worth)[:, np.newaxis]), largest,
      as_float(of_quantized),
      as_float(target * np.sqrt(worth)[:, np.newaxis]), settings)
  return (found.numpy() >= 0.5).astype(np.float64)


@tf.function(reduce_retracing=True)
def _descend(position, fixed, free, down, step, largest, of_quantized, target,
             settings):
  """Takes all steps of Adam; returns shares of rounding up, [0, 1]."""
  first, second = tf.zeros_like(position), tf.zeros_like(position)

  def share_of(position):
    share = tf.sigmoid(position) * (_HIGH - _LOW) + _LOW
    return tf.where(free > 0, tf.clip_by_value(share, 0.0, 1.0), fixed)

  warm_up = int(settings.warm_up * settings.steps)
  number = tf.constant(0)
  while number < settings.steps:
    share = share_of(position)
    values = down + share
    inside = tf.cast(tf.abs(values) <= largest, tf.float32)
    values = tf.clip_by_value(values, -largest, largest) * step
    gradient = 2.0 * (tf.matmul(of_quantized, values) - target) * step * inside
    done = tf.cast(number - warm_up, tf.float32) / (settings.steps - warm_up)
    if done >= 0.0:
      power = settings.last_power + (
          settings.first_power - settings.last_power) * 0.5 * (
              1.0 + tf.cos(done * np.pi))
      off = 2.0 * share - 1.0
      gradient -= settings.weight * 2.0 * power * tf.sign(off) * tf.pow(
          tf.abs(off), power - 1.0)
    sigmoid = tf.sigmoid(position)
    moves = tf.cast((share > 0.0) & (share < 1.0), tf.float32) * free
    gradient *= moves * (_HIGH - _LOW) * sigmoid * (1.0 - sigmoid)
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * tf.square(gradient)
    number += 1
    count = tf.cast(number, tf.float32)
    position -= settings.learning_rate * (
        first / (1.0 - tf.pow(0.9, count))) / (
            tf.sqrt(second / (1.0 - tf.pow(0.999, count))) + 1e-8)
  return share_of(position)
