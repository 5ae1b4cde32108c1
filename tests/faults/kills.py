"""Kills commands in every moment; compares their ends with undisturbed ones.

    python -m tests.faults.kills --number=200 --output=kills.csv

Every case runs a command, kills it by SIGKILL (at a write, or after some time),
runs it again, and looks at what a user finds. Each run is a process of its own,
forked from this one, which has imported everything and computes nothing.
"""

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import csv
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_NUM_INTRAOP_THREADS', '1')

from modelgarden_opt.cli import main as cli  # noqa: E402
from tests.faults import commands  # noqa: E402
from tests.faults import ends  # noqa: E402
from tests.faults import writes  # noqa: E402

EQUAL, DIFFERENT, LEFTOVER, HALF = (
    'equal', 'different', 'leftover', 'half_written')
COLUMNS = ('kind', 'case', 'outcome', 'message')
# Of the kills, those that come after some time and not at a write.
_BY_TIME = 0.25
_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class _Undisturbed:
  """A command that nobody has killed.

  Attributes:
    moments: How many moments there were to kill it.
    seconds: How long it took.
    state: See `ends.state`.
  """
  moments: int
  seconds: float
  state: dict[str, str]


class _Place:
  """Directory in which a command is run, the same one for all its cases."""

  def __init__(self, command: commands.Command, root: pathlib.Path):
    self._command, self._root = command, root
    self.directory = root / 'run'
    self._log = root / f'{command.kind}.log'
    self._prepared = root / f'{command.kind}_prepared'

  def prepare(self) -> None:
    """Makes what the command starts from, once."""
    for argv in self._command.before(str(self._prepared)):
      code, _ = self._fork(lambda argv=argv: cli.main(argv))
      if code:
        raise RuntimeError(f'{argv} ended with {code}: {self._tail()}')

  def _argv(self) -> list[str]:
    return self._command.argv(str(self._prepared), str(self.directory))

  def undisturbed(self) -> _Undisturbed:
    """Runs the command without killing it."""
    start = time.monotonic()
    result = self._root / 'result.json'

    def work():
      killer = writes.Killer(str(self.directory))
      writes.install(killer)
      code = cli.main(self._argv())
      result.write_text(json.dumps(killer.count))
      return code

    shutil.rmtree(self.directory, ignore_errors=True)
    self.directory.mkdir()
    code, _ = self._fork(work)
    seconds = time.monotonic() - start
    if code:
      raise RuntimeError(
          f'{self._argv()} ended with {code}: {self._tail()}')
    left = ends.leftovers(str(self.directory))
    if left:
      raise RuntimeError(f'an undisturbed {self._command.kind} leaves {left}')
    return _Undisturbed(
        json.loads(result.read_text()), seconds, ends.state(
            str(self.directory)))

  def case(
      self, at: int | None, seconds: float | None, expected: _Undisturbed
  ) -> tuple[str, str]:
    """Kills the command once and runs it again; returns outcome and message."""
    shutil.rmtree(self.directory, ignore_errors=True)
    self.directory.mkdir()

    def work():
      if at is not None:
        writes.install(writes.Killer(str(self.directory), at))
      return cli.main(self._argv())

    code, killed = self._fork(work, seconds)
    if not killed and code:
      return DIFFERENT, f'it ended with {code} before it was killed'
    half = ends.half_written(str(self.directory), expected.state)
    if half:
      return HALF, '; '.join(half)
    code, _ = self._fork(lambda: cli.main(self._argv()))
    if code:
      return DIFFERENT, f'the second time it ended with {code}: {self._tail()}'
    left = ends.leftovers(str(self.directory))
    if left:
      return LEFTOVER, ', '.join(left)
    found = ends.differences(expected.state, ends.state(str(self.directory)))
    if found:
      return DIFFERENT, '; '.join(found)
    return EQUAL, '' if killed else 'it had ended'

  def _tail(self) -> str:
    lines = self._log.read_text(errors='replace').strip().splitlines()
    return lines[-1][:200] if lines else ''

  def _fork(
      self, work: Callable[[], int], seconds: float | None = None
  ) -> tuple[int, bool]:
    """Runs in a child; returns its exit code, and whether it was killed.

    Args:
      work: Returns the exit code.
      seconds: After these it is killed; None for a limit that is an error.
    """
    sys.stdout.flush()
    child = os.fork()
    if not child:
      self._become(work)
    limit = time.monotonic() + (_SECONDS if seconds is None else seconds)
    while True:
      ended, status = os.waitpid(child, os.WNOHANG)
      if ended:
        killed = os.WIFSIGNALED(status)
        return (0 if killed else os.waitstatus_to_exitcode(status)), killed
      if time.monotonic() > limit:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return (0 if seconds is not None else 1), True
      time.sleep(0.01)

  def _become(self, work: Callable[[], int]) -> None:
    """Is the child: writes to the log, works, and ends."""
    log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
      code = work()
    except BaseException:  # pylint: disable=broad-except
      traceback.print_exc()
    finally:
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(code)  # pylint: disable=protected-access


def _cases(
    number: int, expected: _Undisturbed, rng: random.Random
) -> list[tuple[str, int | None, float | None]]:
  """Returns name, moment and seconds of the kills of one command."""
  by_time = min(round(number * _BY_TIME), number - 1)
  moments = expected.moments
  at = rng.sample(range(1, moments + 1), min(number - by_time, moments))
  seconds = [round(rng.uniform(0.1, 1) * expected.seconds, 2)
             for _ in range(number - len(at))]
  return [*((f'write {n} of {moments}', n, None) for n in sorted(at)),
          *((f'{s} s of {expected.seconds:.2f}', None, s)
            for s in sorted(seconds))]


def run(
    kinds: Sequence[str], number: int, seed: int, root: pathlib.Path
) -> list[dict[str, str]]:
  """Kills commands; returns one row a kill.

  Args:
    kinds: Keys of `commands.ALL`.
    number: Kills in all, the same number of each kind.
    seed: Chooses moments.
    root: Directory for everything.
  """
  rng, rows = random.Random(seed), []
  for index, kind in enumerate(kinds):
    place = _Place(commands.make(kind, root), root)
    place.prepare()
    expected = place.undisturbed()
    share = number * (index + 1) // len(kinds) - number * index // len(kinds)
    for name, at, seconds in _cases(share, expected, rng):
      outcome, message = place.case(at, seconds, expected)
      rows.append(dict(zip(COLUMNS, (kind, name, outcome, message))))
      print(f'{kind}: {name}: {outcome} {message}', flush=True)
  return rows


def main(argv: Sequence[str] | None = None) -> int:
  """Runs all cases; returns 0 if all ends were equal."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--number', type=int, default=200)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--output', help='CSV file of the cases')
  parser.add_argument('--kinds', default=','.join(commands.ALL))
  args = parser.parse_args(argv)
  kinds = args.kinds.split(',')
  if args.number < len(kinds) or not {*kinds} <= {*commands.ALL}:
    parser.error(f'--number: at least one of each kind; --kinds: some of '
                 f'{", ".join(commands.ALL)}')
  with tempfile.TemporaryDirectory() as directory:
    rows = run(kinds, args.number, args.seed, pathlib.Path(directory))
  if args.output:
    with open(args.output, 'w', newline='', encoding='utf-8') as f:
      writer = csv.DictWriter(f, COLUMNS, lineterminator='\n')
      writer.writeheader()
      writer.writerows(rows)
  bad = [row for row in rows if row['outcome'] != EQUAL]
  print(f'{len(rows)} kills, {len(rows) - len(bad)} equal ends')
  return 1 if bad else 0


if __name__ == '__main__':
  sys.exit(main())
