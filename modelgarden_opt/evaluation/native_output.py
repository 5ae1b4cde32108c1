"""Holds back what native code prints past Python, to standard error."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import sys
import tempfile

# LiteRT says so of the first interpreter of a process, whatever its log level.
_DELEGATE = b'Created TensorFlow Lite XNNPACK delegate'


def without_delegate_line() -> contextlib.AbstractContextManager[None]:
  """Drops the line with which LiteRT announces its default delegate."""
  return held_back(lambda line: _DELEGATE not in line)


@contextlib.contextmanager
def held_back(
    keep: Callable[[bytes], bool] = lambda line: False) -> Iterator[None]:
  """Holds back lines of standard error; all are printed if the code fails.

  Args:
    keep: Whether a line is printed at the end all the same.
  """
  sys.stderr.flush()
  terminal = os.dup(2)
  with tempfile.TemporaryFile() as held:
    os.dup2(held.fileno(), 2)
    try:
      yield
    except BaseException:
      keep = lambda line: True  # noqa: E731
      raise
    finally:
      os.dup2(terminal, 2)
      os.close(terminal)
      held.seek(0)
      kept = b''.join(line for line in held if keep(line))
      if kept:
        os.write(2, kept)
