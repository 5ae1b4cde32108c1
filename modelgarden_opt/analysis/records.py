"""What an analysis finds out about one layer: the records of its JSON."""

from collections.abc import Mapping
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Record:
  """What one technique, applied to one layer of a float model, costs.

  Attributes:
    layer: Path of the layer, as rules use it.
    technique: `quantization`, `pruning` or `clustering`.
    parameter: Bits of the kernel (activations have those of the run's block),
      share of zeros, or number of distinct weights.
    drop: Metric (top-1 accuracy or mean IoU) of the float model minus that of
      the changed one, in [-1, 1], on the same images.
    drop_low: Lower end of its 95 % confidence interval.
    drop_high: Upper end of it.
    divergence: Mean Kullback-Leibler divergence of the class probabilities of
      the changed model from those of the float one, in nats, over images (over
      pixels of segmentation); >= 0.
  """
  layer: str
  technique: str
  parameter: float
  drop: float
  drop_low: float
  drop_high: float
  divergence: float

  @property
  def key(self) -> tuple[str, str, float]:
    """What identifies it: layer, technique, parameter."""
    return self.layer, self.technique, self.parameter

  @property
  def rank(self) -> tuple[float, float]:
    """Order of the ranking, the largest first.

    A drop counts once its interval excludes zero; else outputs decide, which
    move before any class changes.
    """
    return (self.drop if self.drop_low > 0 else 0.0), self.divergence

  def record(self) -> dict[str, Any]:
    """Returns the fields, ready for JSON."""
    return dataclasses.asdict(self)

  @classmethod
  def of(cls, values: Mapping[str, Any]) -> 'Record':
    """Returns the record that `record` made JSON of."""
    return cls(**{field.name: values[field.name]
                  for field in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class Gain:
  """What a quantized model gains if one layer stays in float.

  Attributes:
    layer: Path of the layer, as rules use it.
    gain: Metric with the layer in float minus that without, in [-1, 1].
    gain_low: Lower end of its 95 % confidence interval.
    gain_high: Upper end of it.
    divergence: See `Record`: of all the rest that is quantized.
  """
  layer: str
  gain: float
  gain_low: float
  gain_high: float
  divergence: float

  def record(self) -> dict[str, Any]:
    """Returns the fields, ready for JSON."""
    return dataclasses.asdict(self)

  @classmethod
  def of(cls, values: Mapping[str, Any]) -> 'Gain':
    """Returns the gain that `record` made JSON of."""
    return cls(**{field.name: values[field.name]
                  for field in dataclasses.fields(cls)})
