"""What a run directory is known by, for messages that need no TensorFlow."""

import os

from modelgarden_opt import errors
from modelgarden_opt import files

# Name of the resolved configuration in a run directory.
PARAMS = 'params.yaml'
# Runs that a message names.
_NUM_NAMED = 5


def assert_run(field: str, directory: str) -> None:
  """Raises `UsageError` for what is not a run directory.

  Args:
    field: Name of the field or flag that gave it, for messages.
    directory: Its path.
  """
  if _is_run(directory):
    return
  runs = [repr(path) for path in (
      os.path.join(directory, name) for name in files.names(directory))
          if _is_run(path)]
  hint = f'; runs in it: {", ".join(runs[:_NUM_NAMED])}' if runs else ''
  raise errors.UsageError(
      f'{field}: {directory!r} is not a run directory: it has no {PARAMS}'
      f'{hint}')


def _is_run(directory: str) -> bool:
  return files.exists(os.path.join(directory, PARAMS))
