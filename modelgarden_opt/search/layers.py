"""The kernels that a search decides about, and what they cost.

A file holds mostly kernels, so the cost of a choice is that of its kernel,
computed and not measured: the bytes that zip makes of its integers, or how
often they are multiplied. It only has to rank candidates; what counts in the
end is measured on the file.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import zlib

import numpy as np
import tf_keras

from modelgarden_opt.compression.pruning import selection
from modelgarden_opt.modeling.channel_pruning import costs as costs_lib
from modelgarden_opt.modeling.equalization import rescaling
from modelgarden_opt.modeling.equalization import units
from modelgarden_opt.search import space

# Bytes of an output channel's scales, of the kernel and of its bias, zipped and
# as they are (with zero points of 8 bytes).
_ZIPPED_SCALES, _SCALES = 8, 24
# Time of a multiplication to that in float. Kernels of 4 bits that are no
# matrix leave XNNPACK (docs/export.md).
_RELATIVE_TIME = {32: 1.0, 8: 0.4, 4: 0.41}
_UNPACKED = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
  """One layer with a kernel.

  Attributes:
    path: Its path, as rules use it.
    layer_type: Class name of the float layer.
    kernel: Its weights as the file has them, with the scales of a following
      batch normalization; float32, the last axis is the output channel.
    positions: How often its kernel is applied to an image.
  """
  path: str
  layer_type: str
  kernel: np.ndarray
  positions: int

  @property
  def is_matrix(self) -> bool:
    """Whether its op is a product with a matrix, at every position."""
    return self.layer_type == 'Dense' or (
        self.layer_type == 'Conv2D' and self.kernel.shape[:2] == (1, 1))

  @property
  def channels(self) -> int:
    """Number of its output channels."""
    return self.kernel.shape[-1]


def find(twin: tf_keras.Model) -> list[Layer]:
  """Returns the layers of a model that have a kernel, in the model's order.

  Args:
    twin: The quantized twin of a float model; its batch normalizations are
      folded.
  """
  rescaling.fold_batch_norm(units.find(twin))
  return [Layer(layer.path, layer.layer_type, _by_channel(layer), positions)
          for layer, positions in costs_lib.positions(twin)
          if layer.chain is not None]


def _by_channel(layer) -> np.ndarray:
  kernel = layer.kernel_variable.numpy().astype(np.float32)
  if layer.layer_type == 'DepthwiseConv2D':
    return kernel.reshape(*kernel.shape[:2], -1)
  return kernel


Cost = Callable[[Layer, space.Choice, space.Family], float]


def zipped(layer: Layer, choice: space.Choice, family: space.Family) -> float:
  """Returns the bytes of a kernel and its scales in a zipped file."""
  if choice.bits == space.FLOAT_BITS:
    return len(zlib.compress(layer.kernel.tobytes(), 6))
  kernel = layer.kernel
  if choice.sparsity:
    kernel = kernel * selection.keep_largest(np.abs(kernel), choice.sparsity)
  per_channel = family.granularity == space.PER_CHANNEL
  levels = 2**(choice.bits - 1) - 1
  if choice.clusters:
    levels = min(levels, choice.clusters // 2)
  axes = tuple(range(kernel.ndim - per_channel))
  limit = np.maximum(np.max(np.abs(kernel), axis=axes), 1e-12)
  integers = np.round(kernel / limit * levels).astype(np.int8)
  # TFLite's layout: the output channel comes first.
  stored = np.moveaxis(integers, -1, 0).ravel()
  if choice.bits == space.LOW_BITS:
    stored = np.append(stored, np.int8(0)) if stored.size % 2 else stored
    stored = (stored[::2] & 15) | (stored[1::2] << 4)
  scales = _ZIPPED_SCALES * layer.channels if per_channel else 0
  return len(zlib.compress(stored.tobytes(), 6)) + scales


def stored(layer: Layer, choice: space.Choice, family: space.Family) -> float:
  """Returns the bytes of a kernel and its scales in a file."""
  scales = family.granularity == space.PER_CHANNEL and (
      choice.bits != space.FLOAT_BITS)
  return layer.kernel.size * choice.bits / 8 + (
      _SCALES * layer.channels if scales else 0)


def time(layer: Layer, choice: space.Choice, family: space.Family) -> float:
  """Returns multiplications, weighted by how long they take."""
  del family
  relative = _RELATIVE_TIME[choice.bits]
  if choice.bits == space.LOW_BITS and not layer.is_matrix:
    relative = _UNPACKED
  return layer.kernel.size * layer.positions * relative


# What is minimized -> how its share of a kernel is estimated.
COSTS: Mapping[str, Cost] = {
    'size': zipped, 'flash': stored, 'latency': time, 'instructions': time}


def choices_of(layer: Layer, within: space.Space) -> list[space.Choice]:
  """Returns what may be done with a layer.

  Depthwise kernels are small and sensitive: they are quantized only.
  """
  found = [space.Choice(bits) for bits in within.bits]
  if layer.layer_type == 'DepthwiseConv2D':
    return found
  integers = [bits for bits in within.bits if bits < space.FLOAT_BITS]
  found += [space.Choice(bits, sparsity=share)
            for bits in integers for share in within.sparsities]
  if space.BITS in integers:
    found += [space.Choice(sparsity=share, clusters=n)
              for n in within.clusters for share in (0.0, *within.sparsities)]
  return found


def total(
    found: Sequence[Layer], candidate: space.Candidate, cost: Cost) -> float:
  """Returns the cost of a candidate."""
  return candidate.family.keep * sum(
      cost(layer, candidate.layers[layer.path], candidate.family)
      for layer in found)
