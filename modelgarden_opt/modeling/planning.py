"""What the techniques of a configuration will do with every kernel."""

from collections.abc import Mapping
import dataclasses

import numpy as np
import tf_keras

from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression.pruning import mask
from modelgarden_opt.compression.quantization import quantizers
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling import masks

_FLOAT_BYTES = 4


@dataclasses.dataclass(frozen=True)
class PlannedKernel:
  """One kernel of a model.

  Attributes:
    path: Path of its layer.
    layer_type: Class name of the float layer.
    shape: The kernel's shape.
    sparsity: Planned share of zeros, in [0, 1).
    num_bits: Bits of its integers, None if it stays in float.
    reason: Why it is not pruned although pruning is configured, or empty.
  """
  path: str
  layer_type: str
  shape: tuple[int, ...]
  sparsity: float
  num_bits: int | None
  reason: str

  @property
  def size(self) -> int:
    """Number of elements."""
    return int(np.prod(self.shape))

  @property
  def zeros(self) -> int:
    """Number of elements that will be zero."""
    return self.size - round(self.size * (1.0 - self.sparsity))

  @property
  def dense_bytes(self) -> int:
    """Bytes of the float32 values."""
    return _FLOAT_BYTES * self.size

  @property
  def sparse_bytes(self) -> int:
    """Bytes as TFLite stores float32 kernels sparsely, dense ones densely.

    Values and their input channel (1 or 2 bytes), and where every row of input
    channels begins (2 or 4 bytes).
    """
    if not self.sparsity or len(self.shape) < 2:
      return self.dense_bytes
    stored = self.size - self.zeros
    inputs = self.shape[-2]
    index = 1 if inputs <= 256 else 2
    segment = 2 if stored < 2**16 else 4
    return (_FLOAT_BYTES + index) * stored + segment * (
        self.size // inputs + 1)


def plan_kernels(
    model: tf_keras.Model, techniques: Mapping[str, plan_lib.Technique]
) -> list[PlannedKernel]:
  """Returns what will be done with every kernel, without training.

  Args:
    model: The float model.
    techniques: What `factory.techniques` returned, at least one.

  Raises:
    UsageError: If a layer cannot be treated as configured, or a rule matches
      nothing.
  """
  compressed = factory.compress_with(model, techniques)
  pruning = techniques.get('pruning')
  reasons = {d.path: d.reason for d in pruning.decisions} if pruning else {}
  planned = []
  for layer in compressed._flatten_layers():  # pylint: disable=protected-access
    if isinstance(layer, leaves.Rewired) and layer.chain is not None:
      planned.append(_planned(layer, reasons.get(layer.path, '')))
  own = {item.path for item in masks.masked_kernels(compressed)} - {
      p.path for p in planned}
  planned += [
      PlannedKernel(item.path, 'own', tuple(item.kernel.shape),
                    item.mask.schedule.final_sparsity, None, '')
      for item in masks.masked_kernels(compressed) if item.path in own]
  return planned


def _planned(layer: leaves.Rewired, reason: str) -> PlannedKernel:
  transforms = list(layer.chain)
  sparsity = [t.schedule.final_sparsity for t in transforms
              if isinstance(t, mask.PruningMask)]
  bits = [t.num_bits for t in transforms
          if isinstance(t, quantizers.KernelQuantizer)]
  return PlannedKernel(
      layer.path, leaves.float_class(type(layer)).__name__,
      tuple(layer.kernel_variable.shape), sparsity[0] if sparsity else 0.0,
      bits[0] if bits else None, reason)
