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


def read_json(path: str) -> Any:
  """Returns the content of a JSON file, None if there is no such file."""
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  if not tf.io.gfile.exists(path):
    return None
  with tf.io.gfile.GFile(path) as f:
    return json.loads(f.read())


def read_bytes(path: str) -> bytes:
  """Returns the content of a file; of a local one without TensorFlow."""
  if '://' not in path:
    with open(path, 'rb') as f:
      return f.read()
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  with tf.io.gfile.GFile(path, 'rb') as f:
    return f.read()


def names(directory: str) -> list[str]:
  """Returns the names in a directory, sorted; none if there is no such one."""
  if '://' not in directory:
    directory = os.path.expanduser(directory)
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  if not tf.io.gfile.isdir(directory):
    return []
  return sorted(name.rstrip('/') for name in tf.io.gfile.listdir(directory))


def replace_section(path: str, name: str, content: str) -> None:
  """Replaces what stands between two markers of a Markdown file.

  Args:
    path: A file with the lines `<!-- name -->` and `<!-- /name -->`.
    name: Name of the section.
    content: What stands there from now on.
  """
  with open(path, encoding='utf-8') as f:
    text = f.read()
  start, end = f'<!-- {name} -->\n', f'<!-- /{name} -->'
  head, rest = text.split(start)
  write_atomically(path, f'{head}{start}{content}\n{end}{rest.split(end)[1]}')
