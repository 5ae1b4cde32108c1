"""Pruning schedules: how sparse a kernel shall be at a training step.

`PolynomialDecay` and `ConstantSparsity` are TFMOT's, by formula and by name. A
custom schedule is a function:

    @schedules.SCHEDULES.register('Cosine')
    def cosine(step, begin_step, end_step, initial_sparsity, final_sparsity,
               power):
      ...

and `pruning_schedule: Cosine` in a YAML names it.
"""

import dataclasses

from modelgarden_opt import registry
from modelgarden_opt.configs.pruning import PRESERVE

# Every schedule by name; each returns a sparsity in [0, 1] for
# begin_step <= step <= end_step, and the final sparsity at `end_step`.
SCHEDULES = registry.Registry('pruning schedule')


@SCHEDULES.register('PolynomialDecay')
def _polynomial_decay(
    step, begin_step, end_step, initial_sparsity, final_sparsity, power):
  """Source: Zhu & Gupta, "To prune, or not to prune", arXiv:1710.01878."""
  if end_step == begin_step:
    return final_sparsity
  left = 1.0 - (step - begin_step) / (end_step - begin_step)
  return final_sparsity + (initial_sparsity - final_sparsity) * left**power


@SCHEDULES.register('ConstantSparsity')
def _constant_sparsity(
    step, begin_step, end_step, initial_sparsity, final_sparsity, power):
  del step, begin_step, end_step, initial_sparsity, power
  return final_sparsity


@SCHEDULES.register(PRESERVE)
def _preserve(
    step, begin_step, end_step, initial_sparsity, final_sparsity, power):
  del step, begin_step, end_step, initial_sparsity, final_sparsity, power
  raise AssertionError('a mask that is preserved has no schedule')


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The schedule of one kernel.

  Attributes:
    name: Key of `SCHEDULES`.
    begin_step: First step at which the mask is set, >= 0.
    end_step: Last one, at which the final sparsity is reached.
    initial_sparsity: Share of zeros at `begin_step`, in [0, 1).
    final_sparsity: Share of zeros from `end_step` on, in [0, 1).
    power: Exponent of `PolynomialDecay`.
    frequency: Steps between two settings of the mask, >= 1. `end_step` is one
      of them whatever the frequency.
  """
  name: str
  begin_step: int
  end_step: int
  initial_sparsity: float
  final_sparsity: float
  power: float
  frequency: int

  def sparsity(self, step: int) -> float:
    """Returns the sparsity at a step; 0 before `begin_step`."""
    if step < self.begin_step:
      return 0.0
    if step >= self.end_step:
      return self.final_sparsity
    return float(SCHEDULES[self.name](
        step, self.begin_step, self.end_step, self.initial_sparsity,
        self.final_sparsity, self.power))

  def last_update(self, step: int) -> int | None:
    """Returns the last step up to `step` at which the mask is set, if any."""
    if step < self.begin_step or self.name == PRESERVE:
      return None
    if step >= self.end_step:
      return self.end_step
    return step - (step - self.begin_step) % self.frequency

  def next_update(self, step: int) -> int | None:
    """Returns the first step after `step` at which the mask is set, if any."""
    if self.name == PRESERVE:
      return None
    if step < self.begin_step:
      return self.begin_step
    if step >= self.end_step:
      return None
    return min(self.last_update(step) + self.frequency, self.end_step)
