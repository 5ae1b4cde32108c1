"""`make faults`: the long forms, and what came of them.

    python -m tests.faults --output_dir=runs/faults --keep

Every form writes a CSV with a row a case. `--keep` replaces the counts of what
ran in `projects/reliability/results/faults.csv`, which `make docs` renders.
"""

import argparse
import collections
from collections.abc import Sequence
import csv
import importlib
import os
import statistics
import sys

from projects import kept
from projects import provenance

KEPT = 'projects/reliability/results/faults.csv'
FIELDS = (*provenance.COLUMNS, 'form', 'seed', 'kind', 'outcome', 'number',
          'median_ms')
# Form -> cases; each is a module here whose `main(argv)` takes --number,
# --seed and --output, and returns whether anything is wrong.
FORMS = {'configurations': 10_000, 'damaged': 2_000, 'kills': 200}


def summary(path: str) -> list[dict[str, object]]:
  """Returns how often what came of a kind of case, and how long it took.

  Args:
    path: CSV file with the columns kind, case, outcome and message, and
      milliseconds if they were measured.
  """
  with open(path, encoding='utf-8', newline='') as f:
    rows = list(csv.DictReader(f))
  counts = collections.Counter((row['kind'], row['outcome']) for row in rows)
  times = collections.defaultdict(list)
  for row in rows:
    if row.get('milliseconds'):
      times[row['kind'], row['outcome']].append(float(row['milliseconds']))
  return [{'kind': kind, 'outcome': outcome, 'number': number, 'median_ms': (
      f'{statistics.median(times[kind, outcome]):.2f}'
      if times[kind, outcome] else '')}
          for (kind, outcome), number in sorted(counts.items())]


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the forms one after the other; returns 1 if anything is wrong."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--form', action='append', choices=FORMS,
                      help='only this one; repeatable')
  parser.add_argument('--share', type=float, default=1.0,
                      help='share of the cases, for a trial')
  parser.add_argument('--seed', type=int, default=1)
  parser.add_argument('--output_dir', default='runs/faults')
  parser.add_argument('--keep', action='store_true',
                      help=f'keep the counts in {KEPT}')
  args = parser.parse_args(argv)
  os.makedirs(args.output_dir, exist_ok=True)
  wrong = []
  for form in args.form or FORMS:
    path = os.path.join(args.output_dir, f'{form}.csv')
    number = max(1, round(args.share * FORMS[form]))
    print(f'{form}: {number:,} cases', flush=True)
    module = importlib.import_module(f'tests.faults.{form}')
    if module.main([f'--number={number}', f'--seed={args.seed}',
                    f'--output={path}']):
      wrong.append(form)
    if args.keep:
      kept.replace(KEPT, FIELDS, [
          {**provenance.columns(), 'form': form, 'seed': args.seed, **row}
          for row in summary(path)], lambda row: row['form'],
                   lambda row: [*FORMS].index(row['form']))
  print(f'wrong: {", ".join(wrong)}' if wrong else 'nothing is wrong')
  return bool(wrong)


if __name__ == '__main__':
  sys.exit(main())
