"""The numbers of filters of a model that has fewer than its configuration."""

from collections.abc import Mapping
import os

import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt import files

FILE = 'architecture.json'

# Path of a convolution -> its number of filters; empty for a model that is
# what its configuration says.
Filters = Mapping[str, int]


def write(filters: Filters, directory: str) -> None:
  """Writes the numbers to a run directory; no file if there are none."""
  path = os.path.join(directory, FILE)
  if filters:
    files.write_json(path, {'filters': dict(filters)})
  elif tf.io.gfile.exists(path):
    tf.io.gfile.remove(path)


def read(directory: str) -> dict[str, int]:
  """Returns the numbers of a run, empty if its directory has none.

  Raises:
    UsageError: If the file is damaged.
  """
  path = os.path.join(directory, FILE)
  found = files.read_json_if_any(path)
  if found is None:
    return {}
  filters = found.get('filters') if isinstance(found, dict) else None
  if not isinstance(filters, dict) or not all(
      isinstance(number, int) for number in filters.values()):
    raise errors.UsageError(
        f'{path!r} is damaged: it has no numbers of filters by layer')
  return filters


def of_checkpoint(path: str) -> dict[str, int]:
  """Returns the numbers of the run that a checkpoint is of, empty without one.

  Args:
    path: File prefix or directory of a checkpoint, in a run directory or one
      level below.
  """
  if '://' not in path:
    path = os.path.abspath(path)  # `best_ckpt/` and `.` have parents, too.
  path = path.rstrip('/')
  directory = path if tf.io.gfile.isdir(path) else os.path.dirname(path)
  return read(directory) or read(os.path.dirname(directory))
