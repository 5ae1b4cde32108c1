"""The search: uniform candidates, sensitivities, then layer by layer."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from collections.abc import Set
import dataclasses
import time

from modelgarden_opt.report import choosing
from modelgarden_opt.search import candidates
from modelgarden_opt.search import harms as harms_lib
from modelgarden_opt.search import layers as layers_lib
from modelgarden_opt.search import limits as limits_lib
from modelgarden_opt.search import space
from modelgarden_opt.search import trials as trials_lib

# Share of the time that the sensitivities of all layers may take.
_SENSITIVITY = 0.2
# A candidate that would be the cheapest, and loses at most so many times what
# it may, is fine-tuned again for so many times the steps.
_NEAR, _LONGER = 2.0, 4

# Measures technique and parameter of the pairs on every layer, within seconds.
Sensitivities = Callable[
    [Sequence[tuple[str, float]], float], Sequence[harms_lib.Record]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
  """When a search ends.

  Attributes:
    seconds: What all trials and measurements may take. No trial begins that
      would not end in time, judging by the longest one of its kind.
    trials: How many there may be at most, the float file aside; None for any
      number.
  """
  seconds: float
  trials: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
  """What is searched.

  Attributes:
    layers: The layers of the model.
    space: What they may be given.
    limits: What the file has to fulfill, and what is to be small.
    teacher: Whether the float model teaches trained candidates.
  """
  layers: Sequence[layers_lib.Layer]
  space: space.Space
  limits: choosing.Constraints
  teacher: bool = False


class Search:
  """One search.

  Attributes:
    stopped: Why it ended: `time`, `trials` or `nothing left to try`.
    sensitivity_seconds: What the sensitivities took.
  """

  def __init__(
      self,
      problem: Problem,
      trials: trials_lib.Trials,
      budget: Budget,
      sensitivities: Sensitivities,
      say: Callable[[str], None] = print,
  ):
    """Initializes the search.

    Args:
      problem: What is searched.
      trials: Makes and judges candidates.
      budget: When it ends.
      sensitivities: Measures what layers are sensitive to.
      say: Gets a line for every trial.
    """
    self._problem, self._trials = problem, trials
    self._budget, self._measure = budget, sensitivities
    self._say = say
    self._cost = layers_lib.COSTS[problem.limits.minimize]
    self._longest = 0.0
    self.sensitivity_seconds = 0.0
    self.stopped = ''

  def run(self) -> list[trials_lib.Record]:
    """Searches until the budget is spent or nothing is left to try.

    Returns:
      The records of all trials, that of the float file first.
    """
    self._tell(self._trials.run_float())
    tried = []
    for candidate in candidates.uniform(
        self._problem.layers, self._problem.space, self._problem.teacher):
      if self._spent():
        return self._trials.kept
      tried.append((self._try(candidate), candidate))
    # The cheapest first: if that fits, the others are not worth it.
    for record, candidate in sorted(
        (pair for pair in tried if self._is_near(pair[0])),
        key=lambda pair: self._cost_of(pair[0])):
      self._longer(record, candidate)
    if not self.stopped:
      self._search({
          candidate.family.keep for record, candidate in tried
          if candidate.family.keep < 1.0
          and record['status'] == trials_lib.FAILED})
    return self._trials.kept

  def _search(self, impossible: Set[float]) -> None:
    """Takes turns in the families, each of which is bisected.

    Args:
      impossible: Shares of the channels that the model cannot be left with.
    """
    begun = time.monotonic()
    left = self._budget.seconds - self._trials.seconds
    harms = harms_lib.Harms(self._measure(
        self._problem.space.treatments(), min(
            left, _SENSITIVITY * self._budget.seconds)))
    self.sensitivity_seconds = time.monotonic() - begun
    running = [
        candidates.Bisection(self._problem.layers, family, self._problem.space,
                             harms, self._cost)
        for family in candidates.families(
            self._problem.space, self._problem.teacher)
        if family.keep not in impossible]
    number = 1
    while running:
      for bisection in list(running):
        if self._spent():
          return
        candidate = self._next_of(bisection)
        if candidate is None:
          running.remove(bisection)
          continue
        candidate = dataclasses.replace(candidate, name=f'searched {number}')
        record = self._try(candidate)
        number += record['name'] == candidate.name  # Or it was tried before.
        record = self._longer(record, candidate)
        bisection.tell(self._fits(record))
    self.stopped = 'nothing left to try'

  def _next_of(
      self, bisection: candidates.Bisection) -> space.Candidate | None:
    """Returns the next candidate of a family that may be the cheapest one."""
    while (found := bisection.next()) is not None:
      candidate, expected = found
      if expected * self._scale() <= self._least():
        return candidate
      bisection.tell(True)  # Those that do more harm cost less.
    return None

  def _least(self) -> float:
    """Returns the cost of the best candidate that fits."""
    return min((self._cost_of(r) for r in self._judged() if self._fits(r)),
               default=float('inf'))

  def _cost_of(self, record: trials_lib.Record) -> float | None:
    return choosing.cost(record, self._problem.limits.minimize)

  def _scale(self) -> float:
    """Returns what a file costs for every unit of its expected cost."""
    first = next((r for r in self._judged() if r['kind'] == 'uniform'), None)
    if first is None:
      return 0.0
    expected = layers_lib.total(
        self._problem.layers, candidates.uniform(
            self._problem.layers, self._problem.space, False)[0], self._cost)
    return self._cost_of(first) / expected

  def _judged(self) -> Iterator[trials_lib.Record]:
    """Yields the trials that have a file, other than the float one."""
    for record in self._trials.kept[1:]:
      if record['status'] == trials_lib.DONE and (
          self._cost_of(record) is not None):
        yield record

  def _fits(self, record: trials_lib.Record) -> bool:
    return record['status'] == trials_lib.DONE and limits_lib.fits(
        record, self._trials.reference, self._problem.limits)

  def _is_near(self, record: trials_lib.Record) -> bool:
    """Whether a trial would be the best one if it were a bit more accurate."""
    limits = self._problem.limits
    near = dataclasses.replace(limits, max_drop=_NEAR * limits.max_drop)
    return (record.get('train_steps', 0) > 0
            and record['status'] == trials_lib.DONE
            and not self._fits(record)
            and limits_lib.fits(record, self._trials.reference, near)
            and self._cost_of(record) is not None
            and self._cost_of(record) < self._least())

  def _longer(
      self, record: trials_lib.Record, candidate: space.Candidate
  ) -> trials_lib.Record:
    """Trains a candidate longer if that can make it the best one.

    Args:
      record: What became of it.
      candidate: The candidate.

    Returns:
      The record of its longer training, else the one that was given.
    """
    if not self._is_near(record) or self._spent(_LONGER):
      return record
    return self._try(dataclasses.replace(
        candidate, times=_LONGER,
        name=f'{candidate.name}, {_LONGER * record["train_steps"]:,} steps'))

  def _try(self, candidate: space.Candidate) -> trials_lib.Record:
    known = len(self._trials.kept)
    record = self._trials.run(candidate)
    if len(self._trials.kept) == known:  # It was tried by another name.
      return record
    self._longest = max(self._longest, record['seconds'] / candidate.times)
    self._tell(record)
    return record

  def _spent(self, times: int = 1) -> bool:
    """Whether no further trial may begin; says why in `stopped`.

    Args:
      times: How many times the steps of others it would take. One that is too
        long leaves time for shorter ones.
    """
    limit = self._budget.trials
    if limit is not None and len(self._trials.kept) > limit:
      self.stopped = 'trials'
    elif (self._trials.seconds + self.sensitivity_seconds
          + times * self._longest > self._budget.seconds):
      if times > 1:
        return True
      self.stopped = 'time'
    return bool(self.stopped)

  def _tell(self, record: trials_lib.Record) -> None:
    """Says what became of a trial."""
    begin = f'{len(self._trials.kept) - 1:3d} {record["name"]}: '
    if record['status'] == trials_lib.FAILED:
      self._say(f'{begin}failed: {record["message"].splitlines()[0]}')
      return
    compared = choosing.compared(record, self._trials.reference)
    self._say(f'{begin}{compared}'
              f'{"" if self._fits(record) else " (does not fit)"}')
