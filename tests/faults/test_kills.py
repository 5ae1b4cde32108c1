"""A few kills; `python -m tests.faults.kills` does hundreds of them."""

import csv
import subprocess
import sys

import pytest

from tests import conftest


@pytest.mark.parametrize('kinds, number', [
    ('data_import', 3),
    pytest.param('float,pqat,pipeline,export', 8, marks=pytest.mark.slow)])
def test_killed_commands_end_like_undisturbed_ones(kinds, number, tmp_path):
  path = tmp_path / 'kills.csv'
  done = subprocess.run(
      [sys.executable, '-m', 'tests.faults.kills', f'--kinds={kinds}',
       f'--number={number}', '--seed=1', f'--output={path}'],
      cwd=conftest.REPOSITORY, check=False, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr[-2000:]
  with path.open(newline='') as f:
    rows = list(csv.DictReader(f))
  assert len(rows) == number
  assert {row['outcome'] for row in rows} == {'equal'}
