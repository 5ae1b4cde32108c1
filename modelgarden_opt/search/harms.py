"""What a choice is expected to do to the output of the model.

Measured by `analysis`, one layer and one technique at a time. Divergences of
small changes add up, so a candidate is expected to do the sum over its layers
and techniques. That ranks candidates; their accuracy is measured.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import Protocol

from modelgarden_opt.search import space


class Record(Protocol):
  """A record of `analysis.records`, as far as it is read."""
  layer: str
  technique: str
  parameter: float
  divergence: float


class Harms:
  """Expected harm of choices by layer."""

  def __init__(self, records: Iterable[Record]):
    """Initializes the table from the records of a sensitivity analysis."""
    self._known: dict[tuple[str, str, float], float] = {
        (r.layer, r.technique, float(r.parameter)): max(0.0, r.divergence)
        for r in records}

  def of(self, layer: str, choice: space.Choice) -> float | None:
    """Returns what a choice does, None if it was not measured.

    Args:
      layer: Path of the layer.
      choice: What is done with its kernel.
    """
    techniques: Mapping[str, Any] = {
        'quantization': choice.bits if choice.bits < space.FLOAT_BITS else 0,
        'pruning': choice.sparsity, 'clustering': choice.clusters}
    harm = 0.0
    for technique, parameter in techniques.items():
      if not parameter:
        continue
      found = self._known.get((layer, technique, float(parameter)))
      if found is None:
        return None
      harm += found
    return harm
