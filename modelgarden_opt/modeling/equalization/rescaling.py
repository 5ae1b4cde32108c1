"""Rescaling of channels that leaves the outputs of a model as they are.

What a unit computes is multiplied by a factor for every channel, and the kernel
that reads it is divided by the same factors. Between them are only functions
with f(k x) = k f(x), k > 0.
"""

from collections.abc import Sequence

from absl import logging
import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.modeling.equalization import units as units_lib

Unit = units_lib.Unit


def by_output(kernel: np.ndarray, unit: Unit) -> np.ndarray:
  """Returns a unit's kernel as [values, output channels], without a copy.

  Args:
    kernel: The kernel; the output channel of a depthwise one [h, w, c, m] is
      c * m.
    unit: The unit.
  """
  return kernel.reshape([-1, unit.size])


def by_input(kernel: np.ndarray, unit: Unit) -> np.ndarray:
  """Returns a kernel that reads a unit as [rest, channels, rest], not copied.

  Args:
    kernel: Kernel of the unit's consumer. Of a dense layer that reads a
      flattened tensor, row `i` belongs to channel `i` modulo their number.
    unit: The unit.
  """
  return kernel.reshape([-1, unit.size, kernel.shape[-1]])


def scale(unit: Unit, factors: np.ndarray) -> None:
  """Multiplies the channels of a unit, and divides the kernel that reads them.

  The kernel takes the factors, and the statistics of its normalization are
  what they would be if they were measured again, so the model trains on as
  before, too.

  Args:
    unit: A unit with a consumer; changed in place.
    factors: Array [channels], > 0.
  """
  _multiply_kernel(unit, factors)
  if unit.norm is not None:
    _follow(unit.norm, factors, _scale_of(unit.norm))
    if unit.norm.center:
      unit.norm.beta.assign(unit.norm.beta.numpy() * factors)
  kernel = unit.consumer.kernel_variable
  rows = by_input(kernel.numpy(), unit) / factors[:, np.newaxis]
  kernel.assign(rows.reshape(kernel.shape))


def fold_batch_norm(units: Sequence[Unit]) -> None:
  """Moves the scales of normalizations into the kernels that they read.

  A normalization then scales by one, to float32 accuracy: what is left of it is
  the bias of the convolution. Its statistics are those of the scaled kernel
  (not 0 and 1), so that training sees the same function as before. The runtime
  folds in the same way, and the kernels are those that it rounds.

  Args:
    units: What `units.find` returned; their layers are changed in place.
  """
  folded = [unit for unit in units if unit.norm is not None]
  for unit in folded:
    factors = _scale_of(unit.norm)
    _multiply_kernel(unit, factors)
    _follow(unit.norm, factors, np.ones_like(factors))
  logging.info('Folded %d batch normalizations into kernels.', len(folded))


def rescale(
    units: Sequence[Unit],
    low: float = 1 / 16,
    high: float = 16.0,
    seed: int = 0,
) -> int:
  """Makes a model hard to quantize: scales every channel by a random factor.

  The inverse of equalization, for tests and studies.

  Args:
    units: What `units.find` returned; their layers are changed in place.
    low: Smallest factor, > 0.
    high: Largest factor; the logarithms of factors are equally distributed.
    seed: Of the random numbers.

  Returns:
    How many units were scaled.
  """
  rng = np.random.default_rng(seed)
  found = [unit for unit in units if unit.consumer is not None]
  for unit in found:
    scale(unit, np.exp(rng.uniform(np.log(low), np.log(high), unit.size)))
  return len(found)


def _multiply_kernel(unit: Unit, factors: np.ndarray) -> None:
  kernel = unit.op.kernel_variable
  columns = by_output(kernel.numpy(), unit) * factors
  kernel.assign(columns.reshape(kernel.shape))
  if unit.op.use_bias:
    unit.op.bias.assign(unit.op.bias.numpy() * factors)


def _scale_of(norm: tf_keras.layers.BatchNormalization) -> np.ndarray:
  """Returns what a normalization multiplies by in inference, [channels]."""
  gamma = _float64(norm.gamma) if norm.scale else 1.0
  return gamma / np.sqrt(_float64(norm.moving_variance) + norm.epsilon)


def _follow(
    norm: tf_keras.layers.BatchNormalization,
    factors: np.ndarray,
    target: np.ndarray,
) -> None:
  """Fits a normalization to a kernel that was multiplied.

  Args:
    norm: Changed in place.
    factors: What the kernel was multiplied by, [channels].
    target: What the normalization shall multiply by in inference.
  """
  norm.moving_mean.assign(_float64(norm.moving_mean) * factors)
  variance = _float64(norm.moving_variance) * factors**2
  if norm.scale:
    norm.gamma.assign(target * np.sqrt(variance + norm.epsilon))
  else:
    variance = 1.0 / target**2 - norm.epsilon
  norm.moving_variance.assign(variance)


def _float64(variable: tf.Variable) -> np.ndarray:
  return variable.numpy().astype(np.float64)
