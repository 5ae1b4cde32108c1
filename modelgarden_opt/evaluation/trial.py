"""Tries a `.tflite` file of a stranger in a process of its own.

The tables are not all that can be wrong with a file: a stride of 0, an index of
a sparse kernel or a loop without an end end the process that runs it.
"""

import contextlib
import resource

from ai_edge_litert import interpreter as litert
import numpy as np

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import isolated
from modelgarden_opt.evaluation import model_file

# Bytes of memory that a file may take, and seconds for two runs.
_MAX_MEMORY = 2**33
_TIME_LIMIT = 60.0


def run(path: str) -> None:
  """Tries a file that this process is about to run.

  Args:
    path: The file.

  Raises:
    UsageError: If it cannot be loaded, crashes the process that runs it, or
      takes too long.
  """
  model_file.unpacked(path)
  try:
    with files.local(path) as there, isolated.Object(
        f'{__name__}:_Trial', there, name=repr(path),
        time_limit=_TIME_LIMIT) as tried:
      reason = tried.call('problem')
  except isolated.TookTooLong:
    raise errors.UsageError(
        f'tflite: {path!r} does not finish a run within {_TIME_LIMIT:g} '
        'seconds') from None
  except isolated.Crashed as e:
    raise errors.UsageError(f'tflite: {path!r} is damaged: {e}') from None
  if reason:
    raise errors.UsageError(f'tflite: {path!r} cannot be loaded: {reason}')


class _Trial:
  """Loads and runs a file with its default delegate."""

  def __init__(self, path: str):
    self._path = path
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY, _MAX_MEMORY))

  def problem(self) -> str:
    """Returns why it cannot be loaded, '' if it can.

    That it cannot take zeros is told by who runs it.
    """
    try:
      interpreter = litert.Interpreter(self._path, num_threads=1)
      interpreter.allocate_tensors()
    except (ValueError, RuntimeError, MemoryError) as e:
      return (str(e) or type(e).__name__).splitlines()[0]
    with contextlib.suppress(ValueError, RuntimeError, MemoryError):
      for detail in interpreter.get_input_details():
        interpreter.set_tensor(
            detail['index'], np.zeros(detail['shape'], detail['dtype']))
      interpreter.invoke()
    return ''
