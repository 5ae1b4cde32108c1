"""Damages files of every kind, and runs a command on each.

    python -m tests.faults.damaged --number=2000 --output=damaged.csv

Commands run in a process that this one has forked; what crashes it, or never
ends, is a row as well, and another process goes on.
"""

import argparse
import collections
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import csv
import dataclasses
import io
import os
import pathlib
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_NUM_INTRAOP_THREADS', '1')

from modelgarden_opt import registry_imports  # noqa: E402, F401
from modelgarden_opt.cli import main as cli  # noqa: E402
from tests.faults import strangers  # noqa: E402

TOLD, ACCEPTED, UNNAMED, TRACEBACK, CRASH, ENDLESS = (
    'told', 'accepted', 'told without a name', 'traceback', 'crash', 'endless')
RIGHT = (TOLD, ACCEPTED)
COLUMNS = ('kind', 'case', 'outcome', 'message', 'milliseconds')
# Seconds after which a case has no end, and between two looks at it.
_SECONDS, _LOOK = 300, 0.2
_LONGEST = 2_000


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a command did with a damaged file; the fields are columns.

  Attributes:
    kind: Key of `strangers.KINDS`.
    case: The command.
    outcome: One of the names above.
    message: What was told, or the traceback.
    milliseconds: How long it took.
  """
  kind: str
  case: str
  outcome: str
  message: str = ''
  milliseconds: float = 0.0


def outcome_of(
    root: pathlib.Path, seed: int, number: int, kind: str = '') -> Outcome:
  """Returns what happens in a case.

  Args:
    root: Where the right files are.
    seed: Of all cases.
    number: Of this one.
    kind: Key of `strangers.KINDS`; '' for one by chance.
  """
  rng = random.Random(f'{seed}/{number}')
  kind = kind or _kind(rng)
  place = root / 'cases' / str(number)
  place.mkdir(parents=True)
  case = strangers.Case(root, place, rng)
  try:
    argv = strangers.KINDS[kind][1](case)
    start = time.perf_counter()
    outcome, message = _run(argv, (case.name, case.path))
    return Outcome(kind, shlex.join(argv), outcome, message[-_LONGEST:],
                   round(1e3 * (time.perf_counter() - start), 1))
  finally:
    shutil.rmtree(place)


def _kind(rng: random.Random) -> str:
  shares = [share for share, _ in strangers.KINDS.values()]
  return rng.choices([*strangers.KINDS], shares)[0]


def _run(argv: Sequence[str], names: Sequence[str]) -> tuple[str, str]:
  """Returns the outcome of a command and its message.

  Args:
    argv: The command.
    names: Of the damaged file, one of which a message must have: its own, and
      the path of the model or the run that it is part of.
  """
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      code = cli.main(argv)
    except SystemExit as e:
      code = e.code
    except BaseException:  # What a user would see as a traceback.
      return TRACEBACK, traceback.format_exc()
  told = out.getvalue() + err.getvalue()
  if 'Traceback' in told:
    return TRACEBACK, told
  if not code:
    return ACCEPTED, ''
  named = any(name in told for name in names)
  return (TOLD if named else UNNAMED), err.getvalue() or out.getvalue()


def outcomes(
    number: int, seed: int, root: pathlib.Path, first: int = 0
) -> Iterator[Outcome]:
  """Yields what happens to damaged files, of right ones in a directory."""
  for index in range(first, number):
    yield outcome_of(root, seed, index)


def _work(number: int, seed: int, root: pathlib.Path, path: str) -> None:
  """Appends the outcomes that a file does not have, one by one."""
  with open(os.devnull, 'wb') as nowhere:
    os.dup2(nowhere.fileno(), 2)  # Native chatter; Python's is redirected.
  for outcome in outcomes(number, seed, root, _num_rows(path)):
    _append(path, outcome)


def _append(path: str, outcome: Outcome) -> None:
  with open(path, 'a', encoding='utf-8', newline='', errors='replace') as f:
    csv.writer(f).writerow(dataclasses.astuple(outcome))


def _rows(path: str) -> list[dict[str, str]]:
  with open(path, encoding='utf-8', newline='') as f:
    return list(csv.DictReader(f))


def _num_rows(path: str) -> int:
  return len(_rows(path))


def _in_a_fork(function, *args, watched: str = '') -> bool:
  """Runs a function in a process of its own.

  Args:
    function: The function.
    *args: Its arguments.
    watched: A file that has to grow all the time.

  Returns:
    Whether the file stopped growing, so that the process was ended.
  """
  sys.stdout.flush()
  child = os.fork()
  if not child:
    code = 1
    try:
      function(*args)
      code = 0
    except BaseException:
      traceback.print_exc()
    os._exit(code)
  since, size = time.monotonic(), -1
  while not os.waitpid(child, os.WNOHANG)[0]:
    now = os.path.getsize(watched) if watched else 0
    if now != size or not watched:
      since, size = time.monotonic(), now
    if time.monotonic() - since > _SECONDS:
      os.kill(child, signal.SIGKILL)
      os.waitpid(child, 0)
      return True
    time.sleep(_LOOK)
  return False


def run(number: int, seed: int, path: str) -> list[dict[str, str]]:
  """Writes what happens to damaged files, and returns it.

  Args:
    number: How many.
    seed: Of the damages.
    path: CSV file.
  """
  with tempfile.TemporaryDirectory() as directory:
    root = pathlib.Path(directory)
    _in_a_fork(strangers.prepare, root)
    assert (root / 'run' / 'params.yaml').exists(), 'no right files'
    with open(path, 'w', encoding='utf-8', newline='') as f:
      csv.writer(f).writerow(COLUMNS)
    while (done := _num_rows(path)) < number:
      ended = _in_a_fork(_work, number, seed, root, path, watched=path)
      if (at := _num_rows(path)) < number:
        rng = random.Random(f'{seed}/{at}')
        _append(path, Outcome(
            _kind(rng), f'number {at}', ENDLESS if ended else CRASH,
            f'{at - done} cases after a start'))
        shutil.rmtree(root / 'cases' / str(at), ignore_errors=True)
  return _rows(path)


def main(argv: Sequence[str] | None = None) -> int:
  """Prints how often what happened; returns 1 if anything is wrong."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--number', type=int, default=2_000)
  parser.add_argument('--seed', type=int, default=1)
  parser.add_argument('--output', default='damaged.csv')
  parser.add_argument('--show', type=int, default=10,
                      help='outcomes to print that are wrong')
  args = parser.parse_args(argv)
  rows = run(args.number, args.seed, args.output)
  wrong = [row for row in rows if row['outcome'] not in RIGHT]
  for row in wrong[:args.show]:
    print(f'{row["outcome"]}: {row["kind"]}: {row["case"]}\n{row["message"]}')
  counts = collections.Counter(row['outcome'] for row in rows)
  print(', '.join(f'{counts[name]:,} {name}' for name in (
      *RIGHT, UNNAMED, TRACEBACK, CRASH, ENDLESS)))
  return bool(wrong)


if __name__ == '__main__':
  sys.exit(main())
