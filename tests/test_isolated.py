"""What crashes or hangs in a process of its own harms nobody else."""

import os
import subprocess
import sys
import time

import pytest

from modelgarden_opt import errors
from modelgarden_opt import isolated
from tests import conftest

_TARGET = 'tests.odd_objects:Odd'


@pytest.fixture
def make(monkeypatch):
  """Returns a function that makes an `Odd`; all are closed at the end."""
  monkeypatch.setenv('PYTHONPATH', str(conftest.REPOSITORY))
  made = []

  def one(*args, **kwargs):
    made.append(isolated.Object(_TARGET, *args, name="'odd'", **kwargs))
    return made[-1]

  yield one
  for each in made:
    each.close()


def test_calls_queue_up_and_come_back_in_order(make):
  odd = make()
  for value in (1, 'a', [2]):
    odd.start('double', value)
  assert [odd.result() for _ in range(3)] == [2, 'aa', [2, 2]]
  assert odd.call('pid') != os.getpid()


def test_errors_are_those_of_the_object(make):
  with pytest.raises(errors.UsageError, match='received true'):
    make(True)
  odd = make()
  with pytest.raises(errors.Failure, match='cannot go on'):
    odd.call('fail')
  assert odd.call('double', 4) == 8
  with pytest.raises(RuntimeError, match='unsupported operand'):
    odd.call('double', {})


@pytest.mark.parametrize('how, end', [
    ('crash', r'crashed \(SIGSEGV\): the reason'), ('leave', 'with code 3')])
def test_a_crash_is_one_message(make, how, end):
  odd = make()
  with pytest.raises(isolated.Crashed, match=f"process of 'odd' .*{end}"):
    odd.call(how)


def test_what_hangs_is_ended(make):
  odd = make(time_limit=0.2)
  pid = odd.call('pid')
  with pytest.raises(isolated.TookTooLong, match='within 0.2 seconds'):
    odd.call('hang')
  with pytest.raises(ProcessLookupError):
    os.kill(pid, 0)


def test_a_process_ends_with_its_parent():
  script = ('from modelgarden_opt import isolated; import os; '
            f'odd = isolated.Object({_TARGET!r}, name="odd"); '
            'print(odd.call("pid"), flush=True); odd.start("hang"); '
            'os.kill(os.getpid(), 9)')
  result = subprocess.run(
      [sys.executable, '-c', script], capture_output=True, text=True,
      cwd=conftest.REPOSITORY,
      env={**os.environ, 'PYTHONPATH': str(conftest.REPOSITORY)}, check=False)
  pid = int(result.stdout)
  deadline = time.monotonic() + 20
  while os.path.exists(f'/proc/{pid}') and time.monotonic() < deadline:
    time.sleep(0.2)
  assert not os.path.exists(f'/proc/{pid}')


def test_the_files_of_a_benchmark_need_no_tensorflow():
  script = ('import modelgarden_opt.benchmark.timed_file, sys; '
            'from modelgarden_opt.evaluation import census; '
            'print("tensorflow" in sys.modules)')
  result = subprocess.run(
      [sys.executable, '-c', script], capture_output=True, text=True,
      cwd=conftest.REPOSITORY, check=True)
  assert result.stdout.strip() == 'False'
