"""Cross-layer equalization: kernels whose channels have ranges of one size.

With one scale for a whole kernel (older NPUs) a channel of small weights has
few steps, and with one scale for an activation a channel of small values. Where
activations allow it, channels are scaled so that a channel has the same range
in the kernel that makes it and in the one that reads it.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and
Bias Correction", arXiv:1906.04721, section 4.1.
"""

import collections
from collections.abc import Sequence

from absl import logging
import numpy as np
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.modeling.equalization import rescaling
from modelgarden_opt.modeling.equalization import units as units_lib

FIELD = 'task.quantization.cross_layer_equalization'
# Channels of weights below this share of the kernel's largest are dead: scaled
# up, nothing but their bias would grow.
_DEAD = 1e-4
# The largest factor of the last pass over all units is at most this.
_CONVERGED = 1.001
_MAX_PASSES = 100
_REMEDIES = {'relu6': 'train the model with relu: of MobileNets, model_id: '
                      'MobileNetV1Relu or MobileNetV2Relu'}


def equalize(model: tf_keras.Model) -> int:
  """Folds normalizations into kernels, then equalizes what can be equalized.

  Call it after the weights are there and before ranges are measured. The
  model computes the same as before, to float32 accuracy.

  Args:
    model: A quantized model of independent weights (not clustered); changed in
      place.

  Returns:
    How many kernels were equalized with the one that reads them.

  Raises:
    UsageError: If there is none; nothing is changed then.
  """
  units = units_lib.find(model)
  pairs = [unit for unit in units if unit.consumer is not None]
  reason = _blocked(units)
  if not pairs:
    raise errors.UsageError(
        f'{FIELD}: no kernel can be equalized with one that alone reads it: '
        f'{reason or "joins or several layers read every one"}; received true, '
        'use false')
  if reason:
    logging.warning('%s: %s.', FIELD, reason)
  rescaling.fold_batch_norm(units)
  equalize_pairs(pairs)
  return len(pairs)


def _blocked(units: Sequence[units_lib.Unit]) -> str:
  """Says which activations keep kernels from being equalized, if any."""
  counts = collections.Counter(
      unit.blocked_by for unit in units if unit.blocked_by)
  return '; '.join(
      f'{name} after {errors.counted(count, "kernel")} does not scale with '
      'its input'
      + (f' ({_REMEDIES[name]})' if name in _REMEDIES else '')
      for name, count in counts.items())


def equalize_pairs(pairs: Sequence[units_lib.Unit]) -> None:
  """Gives channels equal ranges in the two kernels that they connect.

  With r1 the largest magnitude of a channel in the kernel that makes it and r2
  in the one that reads it, the channel is multiplied by sqrt(r2 / r1): both
  are sqrt(r1 r2) then. Units are visited again until nothing moves, because
  the kernel that reads one of them makes the channels of the next.

  Args:
    pairs: Units with a consumer whose normalizations are folded; changed in
      place. Equalized are the kernels as they are, so without folding it is
      the wrong ones.
  """
  kernels = {layer: layer.kernel_variable.numpy()
             for unit in pairs for layer in (unit.op, unit.consumer)}
  views = [(rescaling.by_output(kernels[unit.op], unit),
            rescaling.by_input(kernels[unit.consumer], unit))
           for unit in pairs]
  total = [np.ones(unit.size) for unit in pairs]
  for _ in range(_MAX_PASSES):
    largest = 1.0
    for (made, read), product in zip(views, total):
      factors = _factors(made, read)
      made *= factors
      read /= factors[:, np.newaxis]
      product *= factors
      largest = max(largest, factors.max(), 1 / factors.min())
    if largest <= _CONVERGED:
      break
  for unit, factors in zip(pairs, total):
    rescaling.scale(unit, factors)
  logging.info('Equalized %d kernels; the last pass changed a channel by '
               '%.2g %% at most.', len(pairs), 100 * (largest - 1))


def _factors(made: np.ndarray, read: np.ndarray) -> np.ndarray:
  """Returns what channels are to be multiplied by.

  Args:
    made: The kernel that makes them, [values, channels].
    read: The kernel that reads them, [rest, channels, rest].
  """
  first, second = np.abs(made).max(axis=0), np.abs(read).max(axis=(0, 2))
  alive = (first > _DEAD * first.max()) & (second > _DEAD * second.max())
  return np.sqrt(np.divide(
      second, first, out=np.ones_like(first), where=alive))
