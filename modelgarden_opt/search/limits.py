"""What the file that is searched has to fulfill, and which one does it best."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from modelgarden_opt.report import choosing

# The estimate of a drop on the images of the search may be too good by chance,
# the more so the more candidates were tried: so many standard errors of it are
# kept in reserve.
RESERVE = 0.5
# Standard errors in half of a 95 % interval.
_Z = 1.959964

Record = Mapping[str, Any]


def reserve(record: Record) -> float:
  """Returns the points of accuracy that are kept in reserve for a trial."""
  found = record.get('difference')
  if not found:
    return 0.0
  return RESERVE * 100 * (found['high'] - found['low']) / (2 * _Z)


def fits(
    record: Record, reference: Record, limits: choosing.Constraints) -> bool:
  """Whether a trial meets the constraints, with what is kept in reserve."""
  lost = choosing.drop(record, reference)
  return not choosing.failures(record, reference, limits) and (
      lost + reserve(record) <= limits.max_drop + 1e-9)


def best(
    records: Sequence[Record], limits: choosing.Constraints) -> Record | None:
  """Returns the cheapest trial that fits; else the one that misses least.

  Args:
    records: Trials that were judged; the first one is that of the float file.
    limits: The constraints.

  Returns:
    A trial; None if there is none but the float file.
  """
  reference, *others = records
  fitting = [r for r in others if fits(r, reference, limits)
             and choosing.cost(r, limits.minimize) is not None]
  if fitting:
    return min(fitting, key=lambda r: (
        choosing.cost(r, limits.minimize), choosing.drop(r, reference)))
  return min(others, default=None, key=lambda r: choosing.misses(
      r, reference, limits))
