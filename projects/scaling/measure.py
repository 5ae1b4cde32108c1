"""What input, precision and XLA cost or gain on this machine.

    python -m projects.scaling.measure --output_json=/tmp/scaling.json --keep

Three things are measured, each interleaved with what it is compared with:
images per second of this project's input pipeline and the Model Garden's, from
the same JPEG records; the share of a training step that waits for input, by
steps with one batch that is kept in memory; and steps in bfloat16 and compiled
by XLA. `--keep` writes the rows to `results/scaling.csv` and the table to
docs/scaling.md (`--render` only writes the table).
"""

import argparse
from collections.abc import Iterator
import os
import statistics
import tempfile
import time
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import ratios
from modelgarden_opt.benchmark import training
from modelgarden_opt.report import tables
from projects import kept
from projects import provenance

RESULTS = os.path.join(os.path.dirname(__file__), 'results', 'scaling.csv')
PAGE, MARK = 'docs/scaling.md', 'scaling'
INPUT, WAITING, STEP, WORKERS, REPLICAS = KINDS = (
    'input rate', 'waiting for input', 'training step',
    'two workers, one core each', 'two replicas that agree')
FIELDS = (*provenance.COLUMNS, 'kind', 'case', 'value', 'unit', 'ratio',
          'ratio_low', 'ratio_high', 'rounds')
# Batches before the timed ones: what was prefetched is used up by then.
_WARM_UP = 4


def _row(
    kind: str, case: str, value: float, unit: str, ratio: ratios.Ratio
) -> dict[str, Any]:
  return {'kind': kind, 'case': case, 'value': round(value, 3), 'unit': unit,
          'ratio': ratio.value, 'ratio_low': ratio.low,
          'ratio_high': ratio.high, 'rounds': ratio.rounds}


def _timed(batches, count: int, use=lambda batch: None) -> float:
  """Returns the seconds of so many batches from a pipeline that has begun."""
  iterator = iter(batches)
  for _ in range(_WARM_UP):
    use(next(iterator))
  start = time.perf_counter()
  for _ in range(count):
    use(next(iterator))
  return time.perf_counter() - start


def _alternating(calls, rounds: int) -> dict[str, list[float]]:
  """Returns what calls measure of themselves, every other round backwards."""
  found: dict[str, list[float]] = {name: [] for name in calls}
  for turn in range(rounds):
    for name in calls if turn % 2 == 0 else reversed(calls):
      found[name].append(calls[name]())
  return found


def input_rates(made, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """Yields the rates of input pipelines; the first one is compared with."""
  data = {name: make() for name, make in made.items()}
  seconds = _alternating({
      name: lambda d=d: _timed(d, args.batches) for name, d in data.items()
  }, args.rounds)
  first = next(iter(seconds.values()))
  for name, found in seconds.items():
    # More images per second are fewer seconds.
    yield _row(INPUT, name, args.batches * args.batch_size / statistics.median(
        found), 'images/s', ratios.paired(first, found))


def waiting(name: str, step, config, args) -> dict[str, Any]:
  """Returns the share of a step that a configuration waits for input."""
  data = step.task.build_inputs(config.task.train_data)
  batch = next(iter(data))
  step(batch)
  seconds = _alternating({
      'kept': lambda: _timed([batch] * (_WARM_UP + args.batches), args.batches,
                             step),
      'read': lambda: _timed(data, args.batches, step)}, args.rounds)
  ratio = ratios.paired(seconds['kept'], seconds['read'])
  return _row(WAITING, name, 100 * (1 - ratio.value), '%', ratio)


def steps(made, rounds: int) -> Iterator[dict[str, Any]]:
  """Yields the times of training steps; the first one is compared with."""
  seconds = training.in_turn(made, rounds)
  first = next(iter(seconds.values()))
  for name, found in seconds.items():
    yield _row(STEP, name, 1e3 * statistics.median(found), 'ms',
               ratios.paired(found, first))


def measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """Yields one row for every measurement, when it is made."""
  for row in _measurements(args):
    yield {**provenance.columns(), **row}


def _measurements(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
  from projects.scaling import cases  # pylint: disable=g-import-not-at-top
  with tempfile.TemporaryDirectory() as directory:
    pattern = cases.write_photographs(directory, args.images)
    yield from input_rates(
        cases.loaders(pattern, args.batch_size, args.side), args)
    for name, config in cases.configurations(
        pattern, args.batch_size, args.side):
      if args.case and not any(case in name for case in args.case):
        continue
      try:
        yield waiting(name, cases.Step(config), config, args)
      except errors.UsageError as e:
        print(f'{name}: left out: {e}')
    # The last configuration is the largest one.
    batch = next(iter(cases.Step(config).task.build_inputs(
        config.task.train_data)))
    made = {}
    for case, options in (('float32', {}), ('bfloat16', {'dtype': 'bfloat16'}),
                          ('float32, XLA', {'compiled': True})):
      step = cases.Step(config, **options)
      step(batch)
      made[case] = lambda step=step: step(batch)
    yield from steps(made, args.rounds)


def write(rows: list[dict[str, Any]]) -> None:
  """Writes rows to `RESULTS`, in place of those of the same cases."""
  kept.replace(RESULTS, FIELDS, rows, lambda row: (row['kind'], row['case']),
               lambda row: KINDS.index(row['kind']))


def write_steps(kind: str, case: str, seconds: dict[str, list[float]]) -> None:
  """Writes a row for the times of steps, and the table.

  Args:
    kind: One of `KINDS`.
    case: What took the steps.
    seconds: Of the same rounds; the first ones are compared with the second.
  """
  found, others = seconds.values()
  write([{**provenance.columns(), **_row(
      kind, case, 1e3 * statistics.median(found), 'ms',
      ratios.paired(found, others))}])
  render()


def render() -> None:
  """Writes the table of docs/scaling.md."""
  files.replace_section(PAGE, MARK, table(kept.read(RESULTS)))


def table(rows) -> str:
  """Returns rows as a Markdown table."""
  return tables.markdown(
      ('what', 'case', 'measured', 'ratio'),
      [(row['kind'], row['case'],
        f'{float(row["value"]):,.1f} {row["unit"]}', _ratio(row))
       for row in rows])


def _ratio(row) -> str:
  low, high = row['ratio_low'], row['ratio_high']
  known = low not in ('', None)
  return str(ratios.Ratio(
      float(row['ratio']), float(low) if known else None,
      float(high) if known else None, int(row['rounds'])))


def main(argv: list[str] | None = None) -> None:
  """Measures, or only renders."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--output_json', metavar='PATH')
  parser.add_argument('--keep', action='store_true')
  parser.add_argument('--render', action='store_true')
  parser.add_argument('--case', action='append',
                      help='part of the name of a configuration; repeatable')
  parser.add_argument('--rounds', type=int, default=11)
  parser.add_argument('--batches', type=int, default=12)
  parser.add_argument('--batch_size', type=int, default=32)
  parser.add_argument('--side', type=int, default=224)
  parser.add_argument('--images', type=int, default=512)
  args = parser.parse_args(argv)
  if not args.render:
    rows = []
    for row in measure(args):
      rows.append(row)
      if args.output_json:
        files.write_json(args.output_json, {'results': rows})
      if args.keep:
        write([row])
    print(table(rows))
  if args.keep or args.render:
    render()


if __name__ == '__main__':
  main()
