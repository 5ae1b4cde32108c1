"""Resolves mutated configurations, and counts what happens.

    python -m tests.faults.configurations --number=10000
"""

import argparse
import collections
from collections.abc import Iterator
from collections.abc import Sequence
import csv
import dataclasses
import io
import random
import signal
import statistics
import sys
import time
import traceback

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.cli import configurations
from modelgarden_opt.configs import resolving
from modelgarden_opt.configs import shipped
from modelgarden_opt.configs.reading import yaml_file
from modelgarden_opt.configs.schema import stored
from tests.faults import mutations

# A configuration that takes more time of the processor has no end.
_SECONDS = 5
TOLD, TRACEBACK, ENDLESS, ACCEPTED, SILENT = (
    'told', 'traceback', 'endless', 'accepted', 'silently accepted')


class _Endless(BaseException):
  pass


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What happened to a mutated configuration.

  Attributes:
    mutated: The configuration.
    experiment: What it was for.
    outcome: One of the names above.
    message: What was told, or the traceback.
    seconds: How long it took.
  """
  mutated: mutations.Mutated
  experiment: str
  outcome: str
  message: str
  seconds: float


def valid() -> list[tuple[str, dict]]:
  """Returns experiments and overrides of all shipped configurations."""
  found = []
  for name, path in shipped.paths().items():
    if not name.startswith('pipelines/'):
      values = yaml_file.load(path)
      found.append((configurations.experiment_of(path, values), values))
  return found


def outcomes(number: int, seed: int) -> Iterator[Outcome]:
  """Yields what happens to mutated configurations.

  Args:
    number: How many.
    seed: Of the mutations.
  """
  signal.signal(signal.SIGVTALRM, _ends)
  rng, starts = random.Random(seed), valid()
  for _ in range(number):
    name, values = rng.choice(starts)
    experiment = stored.experiment(name)
    mutated = mutations.mutate(rng, experiment, values)
    yield outcome_of(name, experiment, mutated)


def outcome_of(
    name: str, experiment: stored.Experiment, mutated: mutations.Mutated
) -> Outcome:
  """Returns what happens to one of them."""
  start = time.perf_counter()
  signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS)
  try:
    resolving.resolve(experiment, {'m.yaml': yaml_file.parse(
        mutated.text, 'm.yaml')}).raise_if_wrong()
    kind, message = SILENT if mutated.breaks else ACCEPTED, ''
  except errors.UsageError as e:
    kind, message = TOLD, str(e)
  except _Endless:
    kind, message = ENDLESS, ''
  except Exception:
    kind, message = TRACEBACK, traceback.format_exc()
  finally:
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
  return Outcome(
      mutated, name, kind, message, time.perf_counter() - start)


def _ends(*_) -> None:
  raise _Endless()


def main(argv: Sequence[str] | None = None) -> int:
  """Prints how often what happened; returns 1 if anything is wrong."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--number', type=int, default=10_000)
  parser.add_argument('--seed', type=int, default=1)
  parser.add_argument('--output', help='CSV file with a row a configuration')
  parser.add_argument('--show', type=int, default=10,
                      help='outcomes to print that are wrong')
  args = parser.parse_args(argv)
  found = list(outcomes(args.number, args.seed))
  counts = collections.Counter(outcome.outcome for outcome in found)
  wrong = [outcome for outcome in found
           if outcome.outcome not in (TOLD, ACCEPTED)]
  for outcome in wrong[:args.show]:
    print(f'{outcome.outcome}: {outcome.experiment}, {outcome.mutated.kind} of '
          f'{outcome.mutated.field}\n{outcome.message[-2000:]}\n'
          f'{outcome.mutated.text[:3000] if not outcome.message else ""}')
  if args.output:
    _write(args.output, found)
  slowest = max(found, key=lambda outcome: outcome.seconds)
  median = statistics.median(outcome.seconds for outcome in found)
  print(', '.join(f'{counts[name]:,} {name}' for name in (
      TOLD, ACCEPTED, SILENT, TRACEBACK, ENDLESS)))
  print(f'median {1000 * median:.1f} ms, longest '
        f'{1000 * slowest.seconds:.0f} ms: {slowest.mutated.kind} of '
        f'{slowest.mutated.field}')
  return bool(wrong)


def _write(path: str, found: Sequence[Outcome]) -> None:
  """Writes a row for every configuration."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['kind', 'case', 'outcome', 'message', 'milliseconds'])
  writer.writerows(
      [o.mutated.kind, f'{o.experiment}: {o.mutated.field}', o.outcome,
       o.message, f'{1000 * o.seconds:.3f}'] for o in found)
  files.write_atomically(
      path, text.getvalue().encode('utf-8', 'backslashreplace'))


if __name__ == '__main__':
  sys.exit(main())
