"""What techniques make of a kernel, without training: functions of arrays."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression.clustering import centroids
from modelgarden_opt.compression.pruning import selection
from modelgarden_opt.compression.quantization import kernel_quantizer
from modelgarden_opt.modeling.rounding import layerwise


def quantized(leaf: leaves.Rewired, kernel: np.ndarray, bits: float):
  """Returns a kernel rounded as the quantizer of its layer would.

  Args:
    leaf: A layer whose kernel is quantized.
    kernel: The kernel.
    bits: Bits of its integers. With others than those of the quantizer, its
      range is the largest magnitude.
  """
  quantizer = layerwise.quantizer_of(leaf)
  if quantizer.num_bits != bits:
    others = [t for t in leaf.chain if t is not quantizer]
    quantizer = kernel_quantizer.KernelQuantizer(
        int(bits), quantizer.per_channel)
    quantizer.build(leaf, leaf.kernel_variable)
    for transform in others:
      quantizer.follow(transform)
  return quantizer(tf.constant(kernel), training=False).numpy()


def pruned(leaf: leaves.Rewired, kernel: np.ndarray, sparsity: float):
  """Returns a kernel whose smallest magnitudes are zero."""
  del leaf
  return kernel * selection.keep_largest(np.abs(kernel), sparsity)


def clustered(leaf: leaves.Rewired, kernel: np.ndarray, number: float):
  """Returns a kernel of so many distinct weights; its zeros stay zeros."""
  del leaf
  found, indices = centroids.cluster(
      kernel, int(number), 'KMEANS_PLUS_PLUS',
      preserve_sparsity=bool(np.mean(kernel == 0) > 0.1))
  return found[indices].astype(np.float32)


Treat = Callable[[leaves.Rewired, np.ndarray, float], np.ndarray]
TREATMENTS: dict[str, Treat] = {
    'quantization': quantized, 'pruning': pruned, 'clustering': clustered}
_LIMITS = {'quantization': (2, 8), 'pruning': (0.0, 1.0),
           'clustering': (3, 256)}


def parse(text: str) -> tuple[str, float]:
  """Returns technique and parameter of e.g. `quantization:4`.

  Raises:
    UsageError: If it names no technique, or no parameter of it.
  """
  technique, _, value = text.partition(':')
  if technique not in TREATMENTS:
    raise errors.UsageError(
        f'technique: {technique!r} is unknown'
        f'{errors.nearest(technique, TREATMENTS)}')
  low, high = _LIMITS[technique]
  whole = technique != 'pruning'
  try:
    number = int(value) if whole else float(value)
  except ValueError:
    number = -1
  if not low <= number <= high or number == 1.0 and not whole:
    kind = ('bits' if technique == 'quantization' else
            'distinct weights' if whole else 'share of zeros')
    raise errors.UsageError(
        f'technique: {text!r} needs {"a whole number" if whole else "a number"}'
        f' of {kind}, {low} to {high}, as in {technique}:{_EXAMPLES[technique]}'
    )
  return technique, number


_EXAMPLES = {'quantization': '4', 'pruning': '0.5', 'clustering': '16'}


def treats(technique: str, leaf: leaves.Rewired) -> bool:
  """Whether a technique treats the kernel of a layer if nobody says otherwise.

  Pruning and clustering leave depthwise kernels alone, unless the run does not.
  """
  return (technique == 'quantization' or leaf.layer_type != 'DepthwiseConv2D'
          or any(t.technique == technique for t in leaf.chain))
