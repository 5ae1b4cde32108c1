"""What the techniques of a configuration will do with every kernel."""

from collections.abc import Mapping
import dataclasses

import numpy as np
import tf_keras

from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import rules
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.state import architecture

_FLOAT_BYTES = 4


@dataclasses.dataclass(frozen=True)
class PlannedKernel:
  """One kernel of a model.

  Attributes:
    path: Path of its layer.
    layer_type: Class name of the float layer.
    shape: The kernel's shape.
    sparsity: Planned share of zeros, in [0, 1).
    clusters: Number of distinct weights (of an output channel if so
      configured), None if they are not clustered.
    num_bits: Bits of its integers, None if it stays in float.
    bits_reason: Why they are not those that the block asks for, or empty.
    reason: Why it is not pruned although pruning is configured, or empty.
  """
  path: str
  layer_type: str
  shape: tuple[int, ...]
  sparsity: float
  clusters: int | None = None
  num_bits: int | None = None
  bits_reason: str = ''
  reason: str = ''

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
    model: tf_keras.Model,
    techniques: Mapping[str, plan_lib.Technique],
    filters: architecture.Filters | None = None,
) -> list[PlannedKernel]:
  """Returns what will be done with every kernel, without training.

  Args:
    model: The float model.
    techniques: What `factory.make_techniques` returned, at least one.
    filters: See `factory.compress_with`.

  Raises:
    UsageError: If a layer cannot be treated as configured, or a rule matches
      nothing.
  """
  compressed = factory.compress_with(model, techniques, filters)
  pruning = techniques.get('pruning')
  reasons = {d.path: d.reason for d in pruning.decisions} if pruning else {}
  planned = []
  for layer in internals.layers_of(compressed):
    if isinstance(layer, leaves.Rewired) and layer.chain is not None:
      planned.append(_planned(layer, reasons.get(layer.path, '')))
  paths = {p.path for p in planned}
  return planned + [
      PlannedKernel(item.path, 'own', tuple(item.kernel.shape),
                    item.transform.planned().get('sparsity', 0.0))
      for item in constraints.find(compressed) if item.path not in paths]


def _planned(layer: leaves.Rewired, reason: str) -> PlannedKernel:
  planned = PlannedKernel(
      layer.path, rules.float_type(layer),
      tuple(layer.kernel_variable.shape), 0.0, reason=reason)
  for transform in layer.chain:
    planned = dataclasses.replace(planned, **transform.planned())
  return planned
