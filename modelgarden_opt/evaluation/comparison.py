"""What changed from one `.tflite` file to another."""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import inspection

# Fields of a kernel's record that are compared, in the order of columns.
_COMPARED = ('op', 'dtype', 'shape', 'sparsity', 'distinct', 'num_scales',
             'm_by_n', 'stored_sparse')


@dataclasses.dataclass(frozen=True)
class Pair:
  """One kernel of two files.

  Attributes:
    before: It in the first file, None if it is in the second one only.
    after: It in the second file, None if it is gone.
  """
  before: inspection.Kernel | None
  after: inspection.Kernel | None

  @property
  def name(self) -> str:
    """Its tensor's name, of the file whose name says more."""
    names = [k.name for k in (self.after, self.before) if k is not None]
    return max(names, key=lambda name: '/' in name)

  @property
  def sqnr_db(self) -> float | None:
    """The first file's weights over the change of them, in dB.

    Infinite where nothing changed; None where sizes differ. Layouts of one size
    are compared: a pointwise convolution may have become a dense layer.
    """
    if not self.before or not self.after or (
        self.before.size != self.after.size):
      return None
    a, b = self.before.real.ravel(), self.after.real.ravel()
    noise = float(np.sum((a - b)**2))
    if not noise:
      return math.inf
    signal = float(np.sum(a**2))
    return 10 * math.log10(signal / noise) if signal else None

  def record(self) -> dict[str, Any]:
    """Returns `name`, what differs as `[before, after]`, and `sqnr_db`."""
    records = [k.record() if k else {} for k in (self.before, self.after)]
    sqnr = self.sqnr_db
    return {
        'name': self.name,
        'changed': {field: [r.get(field) for r in records]
                    for field in _COMPARED
                    if records[0].get(field) != records[1].get(field)},
        'sqnr_db': None if sqnr == math.inf else sqnr,
        'same_weights': sqnr == math.inf}


def pair(
    before: Sequence[inspection.Kernel], after: Sequence[inspection.Kernel]
) -> list[Pair]:
  """Returns the kernels of two files side by side.

  Files of one network have their kernels in one order, whatever the converter
  called them; otherwise they are matched by name.
  """
  if [k.size for k in before] == [k.size for k in after]:
    return [Pair(a, b) for a, b in zip(before, after)]
  named = {k.name: k for k in after}
  pairs = [Pair(k, named.pop(k.name, None)) for k in before]
  return pairs + [Pair(None, k) for k in named.values()]


def compare(before: str, after: str) -> dict[str, Any]:
  """Returns what changed from one file to another.

  Args:
    before: A file.
    after: Another one.

  Returns:
    `models`, `kernels` (see `Pair.record`), `ops` with the number of ops in
    both files where it differs, and `census`, sizes and counts that differ,
    as `[before, after]`.

  Raises:
    UsageError: If one of them is not a TFLite model.
  """
  pairs = pair(inspection.kernels(before), inspection.kernels(after))
  found = [census.take(path) for path in (before, after)]
  names = dict.fromkeys(name for c in found for name in c.ops)
  counts = {
      'size_bytes': [c.size_bytes for c in found],
      'gzip_bytes': [census.gzip_bytes(p) for p in (before, after)],
      'float_ops': [sum(c.float_ops.values()) for c in found],
      'delegate_partitions': [c.num_delegate_partitions for c in found],
      'undelegated_ops': [c.num_undelegated_ops for c in found],
  }
  ops = {name: [c.ops.get(name, 0) for c in found] for name in names}
  return {
      'models': [before, after],
      'kernels': [p.record() for p in pairs],
      'ops': {name: n for name, n in ops.items() if n[0] != n[1]},
      'census': {name: n for name, n in counts.items() if n[0] != n[1]},
  }
