"""What SIGTERM and Ctrl-C do: a command ends by itself, with a message.

A command stops where it is (`errors.Stopped` is raised). Training, once it has
taken steps, asks to be left alone, looks at `requested` between steps, and
saves a checkpoint before it stops.
"""

from collections.abc import Iterator
import contextlib
import signal
import sys
import threading

from modelgarden_opt import errors

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _State:
  """Of this process, as signals are."""
  handled = False
  deferred = False
  requested: int | None = None


@contextlib.contextmanager
def handled() -> Iterator[None]:
  """Makes signals end what runs in this context by `errors.Stopped`.

  A command that runs inside of another one changes nothing; neither does one
  outside of the main thread, where Python handles no signals.
  """
  if _State.handled or (
      threading.current_thread() is not threading.main_thread()):
    yield
    return
  before = {number: signal.signal(number, _handle) for number in _SIGNALS}
  _State.handled, _State.requested = True, None
  try:
    yield
  finally:
    _State.handled = False
    for number, handler in before.items():
      signal.signal(number, handler)


def _handle(number: int, unused_frame) -> None:
  again = _State.requested is not None
  if not _State.deferred or (again and number == signal.SIGINT):
    _State.requested = number
    raise errors.Stopped(number)
  if again:  # Some schedulers send it to every process of a group, too.
    return
  _State.requested = number
  print(f'\n{signal.Signals(number).name}: a checkpoint is saved after this '
        'loop of steps or this batch', file=sys.stderr, flush=True)


@contextlib.contextmanager
def deferrable() -> Iterator[None]:
  """What is deferred in this context is no longer after it."""
  try:
    yield
  finally:
    _State.deferred = False


def defer() -> None:
  """From now on signals set `requested`, and a second Ctrl-C stops at once."""
  _State.deferred = _State.handled


def requested() -> int | None:
  """Returns the signal that asks this process to stop, if there was one."""
  return _State.requested if _State.deferred else None
