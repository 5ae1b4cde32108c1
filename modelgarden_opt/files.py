"""Files that are either whole or not there, on any file system of `tf.io`."""

import json
import os
from typing import Any
import uuid


def write_atomically(path: str, content: str | bytes) -> None:
  """Writes a file under a temporary name and renames it.

  Args:
    path: Destination; missing directories are created, an existing file is
      replaced.
    content: Text or bytes of the whole file.
  """
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  directory = os.path.dirname(path)
  if directory:
    tf.io.gfile.makedirs(directory)
  temporary = f'{path}.tmp-{uuid.uuid4().hex}'
  try:
    with tf.io.gfile.GFile(temporary, 'wb') as f:
      f.write(content)
    tf.io.gfile.rename(temporary, path, overwrite=True)
  except BaseException:
    if tf.io.gfile.exists(temporary):
      tf.io.gfile.remove(temporary)
    raise


def write_json(path: str, value: Any) -> None:
  """Writes a JSON file atomically, indented, with a newline at its end."""
  write_atomically(path, json.dumps(value, indent=2) + '\n')
