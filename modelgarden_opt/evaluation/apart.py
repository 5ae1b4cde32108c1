"""A `.tflite` file of any origin, loaded and run in a process of its own.

The tables are not all that can be wrong with a file: a stride of 0, an index of
a sparse kernel or a loop without an end end the process that runs it.
"""

import resource

import numpy as np

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import isolated
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.evaluation import model_file

# Bytes of memory that a file may take, and seconds for a call.
_MAX_MEMORY = 2**33
_TIME_LIMIT = 60.0


class Model:
  """A `litert_model.Model` in a process of its own; to be closed.

  Attributes:
    path: The file.
    input_shape, output_shape: Shapes with the file's batch size.
  """

  def __init__(self, path: str, time_limit: float | None = None):
    """Loads a file.

    Args:
      path: The file.
      time_limit: Seconds that loading and each call may take; None for 60.

    Raises:
      UsageError: If there is no such file, or it cannot be used.
    """
    self.path, self._time_limit = path, time_limit or _TIME_LIMIT
    model_file.unpacked(path)
    with files.local(path) as there:
      self._model = self._told(
          isolated.Object, f'{__name__}:Limited', there, name=repr(path),
          time_limit=self._time_limit)
    self.input_shape, self.output_shape = self._told(
        self._model.call, 'shapes')

  def __call__(self, images: np.ndarray) -> np.ndarray:
    """Returns the outputs of float images; see `litert_model.Model`.

    Raises:
      UsageError: If the process crashes or takes too long.
    """
    return self._told(self._model.call, '__call__', images)

  def close(self) -> None:
    """Ends the process."""
    self._model.close()

  def __enter__(self) -> 'Model':
    return self

  def __exit__(self, *unused_error) -> None:
    self.close()

  def _told(self, function, *args, **kwargs):
    """Calls a function; what ends the process is one message."""
    try:
      return function(*args, **kwargs)
    except isolated.TookTooLong:
      raise errors.UsageError(
          f'tflite: {self.path!r} does not finish a run within '
          f'{self._time_limit:g} seconds') from None
    except isolated.Crashed as e:
      raise errors.UsageError(
          f'tflite: {self.path!r} is damaged: {e}') from None


class Limited(litert_model.Model):
  """A file that may take so much memory; what the process holds."""

  def __init__(self, path: str):
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY, _MAX_MEMORY))
    super().__init__(path)

  def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the shapes of the input and the output."""
    return self.input_shape, self.output_shape
