"""Runs one command as a cluster of processes on this machine.

No TensorFlow: the processes have it.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

from modelgarden_opt import stopping
from modelgarden_opt.training import cluster

# Exit code of a command that was refused; another attempt changes nothing.
REFUSED = 2
_LOOPBACK = '127.0.0.1'
_POLL_SECONDS = 0.1
# How long a process may take to end after it was asked to.
_GRACE_SECONDS = 10.0
# Lines of a log that are shown when its process failed.
_NUM_LAST_LINES = 15


@dataclasses.dataclass
class Member:
  """A process of the cluster.

  Attributes:
    kind: One of `cluster.KINDS`.
    index: Its number among those of its kind.
    log: File that holds what it printed.
    process: The process itself, once it was started.
  """
  kind: str
  index: int
  log: str
  process: subprocess.Popen | None = None

  def __str__(self) -> str:
    return f'{self.kind} {self.index}'

  def exit_code(self) -> int | None:
    """Returns its exit code, of a killed one 128 and the signal; None if it
    runs.
    """
    code = self.process.poll()
    return 128 - code if code is not None and code < 0 else code

  def end(self) -> str:
    """Says how it ended: `exit code 1` or `SIGKILL`."""
    code = self.process.returncode
    return (signal.Signals(-code).name if code < 0 else f'exit code {code}')


def run(
    command: Sequence[str],
    counts: Mapping[str, int],
    log_dir: str,
    restarts: int = 0,
) -> int:
  """Runs a cluster to its end; none of its processes is left running.

  The first process that fails ends the others: a step needs all of them. Then
  all are started again and go on from their last checkpoint, if they may be.

  Args:
    command: What every process runs; TF_CONFIG says which one it is.
    counts: Number of processes by kind, see `cluster.KINDS`.
    log_dir: Directory of one log for each process.
    restarts: How often they are started again, unless one was refused.

  Returns:
    0, or the exit code of the process that failed first.
  """
  os.makedirs(log_dir, exist_ok=True)
  members = [Member(kind, index, os.path.join(log_dir, f'{kind}-{index}.log'))
             for kind, count in counts.items() for index in range(count)]
  for member in members:
    with open(member.log, 'wb'):
      pass
  # SIGTERM ends this process as Ctrl-C does: after its cluster.
  with stopping.handled(), tempfile.TemporaryDirectory(
      prefix='modelgarden_opt_launch_') as temporary:
    for attempt in range(restarts + 1):
      failed = _attempt(command, members, temporary)
      if failed is None:
        return 0
      print(f'launch: {failed} ended with {failed.end()}, see {failed.log}',
            file=sys.stderr)
      if failed.exit_code() == REFUSED:
        break
      if attempt < restarts:
        print(f'launch: restart {attempt + 1} of {restarts}', file=sys.stderr,
              flush=True)
  end = _end_of(failed.log)
  if end not in _end_of(members[0].log):  # Of which all was shown.
    print(end, file=sys.stderr)
  return failed.exit_code()


def _attempt(
    command: Sequence[str], members: Sequence[Member], temporary: str
) -> Member | None:
  """Runs all processes until they end; returns the first one that failed."""
  try:
    _start(command, members, temporary)
    with open(members[0].log, 'rb') as log:
      log.seek(0, os.SEEK_END)
      try:
        return _wait(members, log)
      finally:
        _stop(members)
        _show(log)
  finally:
    _stop(members)


def _start(
    command: Sequence[str], members: Sequence[Member], temporary: str) -> None:
  ports = iter(_free_ports(len(members)))
  addresses: dict[str, list[str]] = {}
  for member in members:
    addresses.setdefault(member.kind, []).append(f'{_LOOPBACK}:{next(ports)}')
  # Together they use the cores once.
  threads = str(max(1, (os.cpu_count() or 1) // len(members)))
  for member in members:
    env = {'TF_NUM_INTRAOP_THREADS': threads, **os.environ,
           'TMPDIR': temporary,  # What a killed one leaves there is removed.
           cluster.VARIABLE: cluster.config_of(
               addresses, member.kind, member.index)}
    with open(member.log, 'ab') as log:
      # A session of its own: Ctrl-C comes here, and is passed on.
      member.process = subprocess.Popen(
          command, stdin=subprocess.DEVNULL, stdout=log,
          stderr=subprocess.STDOUT, env=env, start_new_session=True)
    print(f'launch: {member} is process {member.process.pid}, log '
          f'{member.log}', flush=True)


def _wait(members: Sequence[Member], log) -> Member | None:
  """Waits while the cluster works; what the first process prints is shown."""
  # Parameter servers, and the workers that a chief sends steps to, serve until
  # they are stopped.
  kinds = {member.kind for member in members}
  working = [member for member in members
             if 'ps' not in kinds or member.kind == 'chief']
  while True:
    codes = [member.exit_code() for member in members]
    _show(log)
    failed = [m for m, code in zip(members, codes) if code]
    if failed:
      # What was killed, or refused, came before those that noticed it.
      return max(failed, key=lambda m: m.exit_code() != 1)
    if all(member.exit_code() == 0 for member in working):
      return None
    time.sleep(_POLL_SECONDS)


def _show(log) -> None:
  """Prints what was added to a log."""
  sys.stdout.write(log.read().decode(errors='replace'))
  sys.stdout.flush()


def _stop(members: Sequence[Member]) -> None:
  """Ends every process that still runs: first asked to, then killed."""
  deadline = time.monotonic() + _GRACE_SECONDS
  for request in (signal.SIGTERM, signal.SIGKILL):
    alive = [m.process for m in members if m.process and m.process.poll() is
             None]
    for process in alive:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, request)
    for process in alive:
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.1, deadline - time.monotonic()))


def _free_ports(count: int) -> list[int]:
  """Returns ports of the loopback interface that nobody listens on."""
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for opened in sockets:
      opened.bind((_LOOPBACK, 0))
    return [opened.getsockname()[1] for opened in sockets]


def _end_of(path: str) -> str:
  with open(path, encoding='utf-8', errors='replace') as f:
    return '\n'.join(f.read().splitlines()[-_NUM_LAST_LINES:])
