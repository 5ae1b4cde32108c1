"""Runs a tool as a process of its own, which may crash or hang."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import importlib.metadata
import os
import shutil
import signal
import subprocess

from modelgarden_opt import errors

EXTRA = "pip install 'modelgarden_opt[targets]'"


@dataclasses.dataclass(frozen=True)
class Finished:
  """What is left of a process.

  Attributes:
    command: What was run.
    returncode: Its exit code; that of a killed one is minus the signal.
    out: Its standard output.
    err: Its standard error.
  """
  command: tuple[str, ...]
  returncode: int
  out: str
  err: str

  def last_line(self) -> str:
    """Returns the last line that it wrote, '' if there is none."""
    lines = [line.strip() for line in f'{self.out}\n{self.err}'.splitlines()]
    return next((line for line in reversed(lines) if line), '')

  def end(self) -> str:
    """Says how it ended: `exit code 1` or `SIGFPE`."""
    if self.returncode >= 0:
      return f'exit code {self.returncode}'
    return signal.Signals(-self.returncode).name


def find(program: str, install: str, directory: str = '') -> str:
  """Returns the path of a program.

  Args:
    program: Its name.
    install: The command that installs it.
    directory: Where to look first.

  Raises:
    UsageError: If it is not installed.
  """
  path = directory and shutil.which(os.path.join(directory, program))
  path = path or shutil.which(program)
  if not path:
    raise errors.UsageError(f'{program} is not installed: {install}')
  return path


def version(package: str, install: str = EXTRA) -> str:
  """Returns the version of an installed Python package.

  Raises:
    UsageError: If it is not installed.
  """
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    raise errors.UsageError(
        f'{package} is not installed: {install}') from None


def run(
    command: Sequence[str],
    time_limit: float,
    env: Mapping[str, str] | None = None,
) -> Finished:
  """Runs a command and waits for it; nothing of it is left running.

  Args:
    command: Program and arguments.
    time_limit: Seconds that it may take.
    env: Its environment; None for that of this process.

  Raises:
    Failure: If it takes longer.
  """
  process = subprocess.Popen(
      command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
      stderr=subprocess.PIPE, env=env, start_new_session=True)
  try:
    out, err = process.communicate(timeout=time_limit)
  except subprocess.TimeoutExpired:
    raise errors.Failure(
        f'{os.path.basename(command[0])} did not end within {time_limit:g} '
        'seconds; --time_limit allows more') from None
  finally:
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)
      process.communicate()
  return Finished(
      tuple(command), process.returncode, out.decode(errors='replace'),
      err.decode(errors='replace'))
