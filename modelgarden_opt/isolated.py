"""An object in a process of its own, which may crash or hang without harm.

Native code that reads files of any origin can take its process down, or never
come back. What is asked of such an object is therefore a message to another
process, which imports nothing that the object does not need.
"""

from collections.abc import Iterator
import contextlib
import importlib
from multiprocessing import connection
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from typing import Any

from modelgarden_opt import errors

_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Seconds between two looks at whether the parent is still there.
_LOOK = 1.0
# Seconds for starting Python and importing what the object needs.
_START = 120.0


class Crashed(errors.Failure):
  """The process ended where it should have answered."""


class TookTooLong(errors.Failure):
  """The process did not answer in time, and was ended."""


class Object:
  """A proxy of an object that lives in a process of its own.

  Attributes:
    name: What messages call what it works on.
  """

  def __init__(self, target: str, *args: Any, name: str,
               time_limit: float | None = None, keep: tuple[int, ...] = ()):
    """Starts the process, which makes the object.

    Args:
      target: `module:Class`; arguments and results of its methods are pickled.
      *args: Arguments of the class.
      name: See above.
      time_limit: Seconds that an answer may take; None for as long as it
        takes.
      keep: File descriptors that the process has, too.

    Raises:
      UsageError, Failure: As the class raises them, or if the process crashes
        (`Crashed`) or does not answer (`TookTooLong`).
    """
    self.name, self._time_limit = name, time_limit
    self._errors = tempfile.TemporaryFile()
    ours, theirs = socket.socketpair()
    with theirs:
      self._process = subprocess.Popen(
          [sys.executable, '-P', '-m', 'modelgarden_opt.isolated',
           str(theirs.fileno()), str(os.getpid())],
          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
          stderr=self._errors, pass_fds=(theirs.fileno(), *keep),
          env=_environment(), start_new_session=True)
    self._connection = connection.Connection(ours.detach())
    try:
      self._connection.send((target, args))
      # Starting Python is not the object's time.
      self._receive(None if time_limit is None else time_limit + _START)
    except BaseException:
      self.close()
      raise

  def call(self, method: str, *args: Any) -> Any:
    """Returns what a method of the object returns.

    Raises:
      UsageError, Failure: As for the constructor.
    """
    self.start(method, *args)
    return self.result()

  def start(self, method: str, *args: Any) -> None:
    """Calls a method; `result` waits for what it returns. Calls queue up."""
    try:
      self._connection.send((method, args))
    except OSError:
      raise self._crashed() from None

  def result(self) -> Any:
    """Returns what the oldest call returns whose result was not taken yet."""
    return self._receive(self._time_limit)

  def close(self) -> None:
    """Ends the process, whatever it does."""
    with contextlib.suppress(OSError):
      self._connection.close()
    if self._process.poll() is None:
      self._process.kill()
    self._process.wait()
    self._errors.close()

  def __enter__(self) -> 'Object':
    return self

  def __exit__(self, *unused_error) -> None:
    self.close()

  def _receive(self, time_limit: float | None) -> Any:
    try:
      if not self._connection.poll(time_limit):
        self.close()
        raise TookTooLong(
            f'{self.name} gave no result within {self._time_limit:g} seconds; '
            '--time_limit allows more')
      done, value = self._connection.recv()
    except (EOFError, OSError):
      raise self._crashed() from None
    if done:
      return value
    kind, message = value
    raise {'usage': errors.UsageError, 'failure': errors.Failure}.get(
        kind, RuntimeError)(message)

  def _crashed(self) -> Crashed:
    self._process.kill()
    code = self._process.wait()
    if code < 0 and code != -signal.SIGKILL:
      end = f'crashed ({signal.Signals(-code).name})'
    else:
      end = 'ended' if code < 0 else f'ended with code {code}'
    self._errors.seek(0)
    lines = self._errors.read().decode(errors='replace').split('\n')
    last = next((line.strip() for line in reversed(lines) if line.strip()), '')
    return Crashed(f'the process of {self.name} {end}'
                   f'{f": {last[:200]}" if last else ""}')


@contextlib.contextmanager
def objects() -> Iterator[Any]:
  """Gives a list to put objects in, all of which are closed at the end."""
  found: list[Object] = []
  try:
    yield found
  finally:
    for each in found:
      each.close()


def _environment() -> dict[str, str]:
  """Returns the environment, in which this package can be imported."""
  paths = [_PACKAGE_PARENT, os.environ.get('PYTHONPATH', '')]
  return {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))}


def _serve(descriptor: int, parent: int) -> None:
  """Makes the object and calls its methods until the parent is gone."""
  threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
  channel = connection.Connection(descriptor)
  target, args = channel.recv()
  module, _, name = target.partition(':')
  made = None

  def make():
    nonlocal made
    made = getattr(importlib.import_module(module), name)(*args)

  outbox = queue.SimpleQueue()
  threading.Thread(target=_send, args=(channel, outbox), daemon=True).start()
  outbox.put(_answer(make, ()))
  with contextlib.suppress(EOFError, OSError):
    while True:
      method, args = channel.recv()
      outbox.put(_answer(getattr(made, method), args))


def _send(channel: connection.Connection, outbox: queue.SimpleQueue) -> None:
  """Sends answers, so that the next call need not wait for their reader."""
  with contextlib.suppress(OSError):
    while True:
      channel.send(outbox.get())


def _answer(function, args) -> tuple[bool, Any]:
  """Returns whether a call returned, and its value or error."""
  try:
    return True, function(*args)
  except errors.UsageError as e:
    return False, ('usage', str(e))
  except errors.Failure as e:
    return False, ('failure', str(e))
  except Exception:  # Shown by the parent as its own.
    return False, ('error', traceback.format_exc())


def _end_with(parent: int) -> None:
  """Ends this process when its parent has ended, even inside of a call."""
  while os.getppid() == parent:
    time.sleep(_LOOK)
  os._exit(1)


if __name__ == '__main__':
  _serve(int(sys.argv[1]), int(sys.argv[2]))
