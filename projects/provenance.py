"""Where a kept result comes from: commit, date, machine and versions."""

import datetime
import os
import subprocess

from modelgarden_opt.benchmark import latency

COLUMNS = ('commit', 'date', 'environment')


def commit() -> str:
  """Returns the commit of this checkout, with a plus if files differ."""
  found = subprocess.run(
      ['git', 'describe', '--always', '--abbrev=7', '--dirty=+'], check=False,
      capture_output=True, text=True, cwd=os.path.dirname(__file__))
  return found.stdout.strip() or 'unknown'


def columns() -> dict[str, str]:
  """Returns the values of `COLUMNS`, for a row of a CSV file."""
  environment = '; '.join(
      f'{key} {value}' for key, value in latency.environment().items())
  return dict(zip(COLUMNS, (
      commit(), datetime.date.today().isoformat(), environment), strict=True))
