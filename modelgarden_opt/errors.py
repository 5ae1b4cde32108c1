"""Errors that are one message without a traceback, by exit code: 2 and 1."""

from collections.abc import Iterable
import difflib
import re
import signal
import traceback

# What TensorFlow puts around the message of an op: its node and its name.
_OF_OP = re.compile(r'\{\{.*?\}\}\s*|\s*\[Op:.*|\s*name:\s*$', re.DOTALL)
# What a file system of TensorFlow says where no server is reached.
_OF_HTTP = re.compile(
    r"Error executing an HTTP request: libcurl code \d+ meaning '([^']*)', "
    r'error details: .*?\s+when ', re.DOTALL)
# What Keras puts around the message of an error inside of a layer's call.
_OF_CALL = re.compile(
    r'\s*Exception encountered when calling (?P<what>[^\n]*?)\.\n\n'
    r'(?P<message>.*?)\n\nCall arguments received by (?P=what):\n.*', re.DOTALL)
# What gin adds to an error for every configurable that it passes.
_OF_GIN = re.compile(r"(\n\s*In call to configurable '[^\n]*)+\s*$")
# Around a message that an op carries out of a graph.
_BEGIN, _END = '<usage error>', '</usage error>'

_LONG_WORD = re.compile(r'(\S{200})\S{200,}')
# Longer names have no near ones, and are compared in quadratic time.
_LONGEST = 99


class UsageError(ValueError):
  """Something the user wrote cannot be done as written: exit code 2."""


class Failure(RuntimeError):
  """Something failed while running: one message, no traceback, exit code 1."""


class Stopped(BaseException):
  """A signal ended the command; no `except Exception` takes it for an error.

  Attributes:
    signal: Number of the signal.
    kept: What is left of the work, for the message.
  """

  def __init__(
      self, number: int,
      kept: str = 'what was complete is kept, the same command goes on'):
    super().__init__(f'stopped by {signal.Signals(number).name}; {kept}')
    self.signal, self.kept = number, kept


def close(value: str, choices: Iterable[str]) -> str:
  """Returns `; did you mean 'x'?`, or nothing where no choice is similar."""
  found = difflib.get_close_matches(
      value[:_LONGEST], sorted(choices), n=1, cutoff=0.5)
  return f'; did you mean {found[0]!r}?' if found else ''


def nearest(value: str, choices: Iterable[str]) -> str:
  """Returns `; did you mean 'x'? One of: a, b, x`, for the end of a message."""
  choices = sorted(choices)
  hint = close(value, choices)
  return f'{hint or ";"} {"One" if hint else "one"} of: {", ".join(choices)}'


def counted(number: int, noun: str) -> str:
  """Returns `1 layer`, `2 layers`, `1,200 layers`."""
  return f'{number:,} {noun}' + ('' if number == 1 else 's')


def shortened(text: str) -> str:
  """Returns a message in which no word is longer than any that helps."""
  return _LONG_WORD.sub(
      lambda word: f'{word[1]}... ({len(word[0]):,} characters)', text)


def marked(message: str) -> str:
  """Returns a message by which the error of an op is known as a user's."""
  return f'{_BEGIN}{message}{_END}'


def marked_in(text: str) -> str | None:
  """Returns the marked message in the text of an op's error, if any."""
  _, begin, rest = text.partition(_BEGIN)
  message, end, _ = rest.partition(_END)
  return message if begin and end else None


def without_calls(text: str) -> str:
  """Returns a message without what Keras and gin add to errors inside of calls.

  Of every layer around it that is a line before the message and, after it, the
  arguments of the call; of every function that gin configures a line after it.
  """
  text = _OF_GIN.sub('', text)
  found = _OF_CALL.fullmatch(text)
  return without_calls(found['message']) if found else text


def of_user_code(error: BaseException) -> str:
  """Returns what code that is not ours raised, and where."""
  place = traceback.extract_tb(error.__traceback__)[-1]
  return (f'{type(error).__name__}: {without_calls(str(error))} '
          f'({place.filename}:{place.lineno})')


def of_op(error: Exception) -> str:
  """Returns what the error of an op says, without names of graph nodes."""
  text = _OF_OP.sub('', getattr(error, 'message', str(error)))
  return _OF_HTTP.sub(r'\1 when ', text).strip()
