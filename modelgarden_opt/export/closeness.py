"""How far a file's outputs may be from those of its Keras model."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

_LEVELS = 255
# If fewer predictions are clear, all of them count.
_MIN_CLEAR = 0.25


@dataclasses.dataclass(frozen=True)
class Tolerance:
  """What an honest file stays within.

  Differences are in output steps: the quantization step of an int8 file's
  output, elsewhere 1/255 of the range of the Keras model's outputs.

  Attributes:
    mean: Largest mean difference.
    largest: Largest difference of a single output.
    agreement: Smallest share of predictions that equal those of Keras; those
      whose two best logits in Keras are nearer than `mean` do not count.
  """
  mean: float
  largest: float
  agreement: float


# (format, whether it keeps trained ranges) -> what it may differ by.
# Mean differences of honest files of trained models: 0.00 (float32), 0.04
# (float16), 0.3 (dynamic_int8), 0.005 to 0.15 (trained int8), 0.006 (trained
# int16x8), 0.6 to 1.6 (calibrated). Of files with shuffled kernels: 38 and
# more, with agreement as by chance; of int8 files with halved trained ranges:
# 60.
TOLERANCES: Mapping[tuple[str, bool], Tolerance] = {
    ('float32', False): Tolerance(0.05, 0.5, 0.99),
    ('float16', False): Tolerance(1, 10, 0.95),
    ('dynamic_int8', False): Tolerance(4, 40, 0.8),
    ('int8', True): Tolerance(2, 20, 0.9),
    ('int8', False): Tolerance(8, 80, 0.75),
    ('int16x8', True): Tolerance(0.5, 5, 0.95),
    ('int16x8', False): Tolerance(8, 80, 0.75),
}


@dataclasses.dataclass(frozen=True)
class Measured:
  """How far a file's outputs are from those of its Keras model.

  Attributes:
    agreement: Share of all equal predictions.
    clear_agreement: The same share of the predictions that count, see
      `Tolerance`; None if too few do.
    output_step: What steps are, in output units; None for labels, as are the
      rest.
    mean_difference_steps: Mean difference in steps.
    max_difference_steps: Largest difference in steps.
    max_difference: The same in output units.
  """
  agreement: float
  clear_agreement: float | None
  output_step: float | None = None
  mean_difference_steps: float | None = None
  max_difference_steps: float | None = None
  max_difference: float | None = None

  def record(self) -> dict[str, Any]:
    """Returns the numbers, ready for JSON."""
    return dataclasses.asdict(self)

  def problems(self, limits: Tolerance, origin: str = 'Keras') -> list[str]:
    """Returns one line for every number beyond its limit.

    Args:
      limits: The limits.
      origin: What the file was compared with, for messages.
    """
    found = []
    for name, value, limit in (
        ('mean', self.mean_difference_steps, limits.mean),
        ('largest', self.max_difference_steps, limits.largest)):
      if value is not None and not value <= limit:
        found.append(f'{name} difference from {origin} {value:.3g} output '
                     f'steps, limit {limit:g}')
    agreement = self.clear_agreement
    if agreement is None:  # The output is so coarse that nothing is clear.
      agreement = self.agreement
    if agreement < limits.agreement:
      found.append(f'same prediction as {origin} on {agreement:.1%}, '
                   f'limit {limits.agreement:.0%}')
    return found


def measure(
    actual: np.ndarray,
    expected: np.ndarray,
    step: float,
    limits: Tolerance,
) -> Measured:
  """Compares the outputs of a file with those of Keras.

  Args:
    actual: Outputs of the file: floats [n, ..., classes], or labels.
    expected: Outputs of the Keras model, of equal shape.
    step: Quantization step of an int8 output, 0 for others.
    limits: Of which `mean` says which predictions are clear.
  """
  if np.issubdtype(actual.dtype, np.integer):
    agreement = float(np.mean(actual == expected))
    return Measured(agreement, agreement)
  step = step or float(np.ptp(expected)) / _LEVELS or 1.0
  same = np.argmax(actual, -1) == np.argmax(expected, -1)
  second, first = np.moveaxis(np.partition(expected, -2, -1)[..., -2:], -1, 0)
  clear = first - second > limits.mean * step
  difference = np.abs(actual - expected)
  return Measured(
      float(np.mean(same)),
      float(np.mean(same[clear])) if np.mean(clear) > _MIN_CLEAR else None,
      step,
      float(np.mean(difference)) / step,
      float(np.max(difference)) / step,
      float(np.max(difference)))
