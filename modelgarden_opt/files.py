"""Files that are either whole or not there, on any file system of `tf.io`."""

from collections.abc import Iterator
import contextlib
import fcntl
import json
import os
import re
import time
from typing import Any
import uuid

from modelgarden_opt import errors

# What `temporary` calls a file, after its final name.
_TEMPORARY = re.compile(r'(.+)\.tmp-[0-9a-f]{32}')
# Seconds in which a file that was created is certainly locked.
_JUST_MADE = 0.1


def write_atomically(path: str, content: str | bytes) -> None:
  """Writes a file under a temporary name and renames it.

  A local file is written without TensorFlow.

  Args:
    path: Destination; missing directories are created, an existing file is
      replaced.
    content: Text or bytes of the whole file.
  """
  if '://' not in path:
    _write_local(path, content)
    return
  name = _beside(path)
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  tf.io.gfile.makedirs(os.path.dirname(path))
  try:
    with tf.io.gfile.GFile(name, 'wb') as f:
      f.write(content)
    tf.io.gfile.rename(name, path, overwrite=True)
  except BaseException:
    if tf.io.gfile.exists(name):
      tf.io.gfile.remove(name)
    raise


def _write_local(path: str, content: str | bytes) -> None:
  data = content.encode() if isinstance(content, str) else content
  with temporary(path) as name:
    with open(name, 'wb') as f:
      f.write(data)
    os.replace(name, path)


def _beside(path: str) -> str:
  return f'{path}.tmp-{uuid.uuid4().hex}'


@contextlib.contextmanager
def temporary(path: str) -> Iterator[str]:
  """Gives the name of an empty file beside one that is being made.

  It is removed at the end, if it was not renamed. Before, those are that killed
  processes left: a file is locked for as long as its process makes it.

  Args:
    path: The local file that is being made; missing directories are created.
  """
  directory = os.path.dirname(path) or '.'
  os.makedirs(directory, exist_ok=True)
  sweep(directory, os.path.basename(path))
  name = _beside(path)
  with open(name, 'wb') as f:
    with contextlib.suppress(OSError):  # Not every file system has locks.
      fcntl.flock(f, fcntl.LOCK_EX)
    try:
      yield name
    finally:
      if os.path.exists(name):
        os.remove(name)


def sweep(directory: str, base: str = '') -> None:
  """Removes temporary files of processes that were killed.

  Args:
    directory: A local directory.
    base: Name of the file that they were to become; '' for any.
  """
  for name in names(directory):
    match = _TEMPORARY.fullmatch(name)
    if match and base in ('', match[1]):
      _remove_if_left(os.path.join(directory, name))


def _remove_if_left(path: str) -> None:
  """Removes a temporary file unless a process holds its lock."""
  with contextlib.suppress(OSError), open(path, 'rb') as f:
    # One that has just been made is about to be locked.
    if time.time() - os.fstat(f.fileno()).st_mtime < _JUST_MADE:
      return
    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.remove(path)


def write_json(path: str, value: Any) -> None:
  """Writes a JSON file atomically, indented, with a newline at its end."""
  write_atomically(path, json.dumps(value, indent=2) + '\n')


def read_json(path: str) -> Any:
  """Returns the content of a JSON file; of a local one without TensorFlow.

  Raises:
    UsageError: If there is no such file, or it is not JSON.
  """
  try:
    if '://' not in path:
      content = read_bytes(path)
    else:
      content = _read_remote(path)
    return json.loads(content)
  except OSError as e:
    raise errors.UsageError(
        f'{path!r} cannot be read: {e.strerror}') from None
  except (ValueError, RecursionError) as e:
    raise errors.UsageError(f'{path!r} is not a JSON file: {e}') from None


def _read_remote(path: str) -> bytes:
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  try:
    return read_bytes(path)
  except tf.errors.OpError as e:
    raise errors.UsageError(
        f'{path!r} cannot be read: {errors.of_op(e)}') from None


def read_json_if_any(path: str) -> Any:
  """Returns the content of a JSON file, None if there is no such file."""
  return read_json(path) if exists(path) else None


def expanded(path: str) -> str:
  """Returns a path with `~` replaced by the home directory."""
  return os.path.expanduser(path) if '://' not in path else path


def read_bytes(path: str, limit: int = -1) -> bytes:
  """Returns the content of a file; of a local one without TensorFlow.

  Args:
    path: The file.
    limit: At most so many bytes, -1 for all.
  """
  if '://' not in path:
    with open(path, 'rb') as f:
      return f.read(limit)
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  with tf.io.gfile.GFile(path, 'rb') as f:
    return f.read(limit)


def exists(path: str) -> bool:
  """Whether there is a file or a directory; of a local one without TensorFlow.
  """
  if '://' not in path:
    return os.path.exists(path)
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  return tf.io.gfile.exists(path)


def is_directory(path: str) -> bool:
  """Whether there is a directory; of a local one without TensorFlow."""
  if '://' not in path:
    return os.path.isdir(path)
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  return tf.io.gfile.isdir(path)


def names(directory: str) -> list[str]:
  """Returns the names in a directory, sorted; none if there is no such one."""
  if '://' not in directory:
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  if not tf.io.gfile.isdir(directory):
    return []
  return sorted(name.rstrip('/') for name in tf.io.gfile.listdir(directory))


def below(directory: str) -> list[str]:
  """Returns the paths of all files below a directory, relative to it, sorted.

  Directories without a file are in it as paths that end in `/`. Links are
  followed, except for those to a directory that they are in.

  Raises:
    UsageError: If a directory cannot be read: what is in it would be missing.
  """
  if '://' in directory:
    import tensorflow as tf  # pylint: disable=g-import-not-at-top
    walk = tf.io.gfile.walk(directory)
  else:
    walk = _walk(directory)
  found = []
  for parent, children, file_names in walk:
    relative = parent[len(directory):].strip('/')
    found += [os.path.join(relative, name) for name in file_names]
    if relative and not children and not file_names:
      found.append(f'{relative}/')
  return sorted(found)


def _walk(directory: str) -> Iterator[tuple[str, list[str], list[str]]]:
  """Yields what `os.walk` yields, see `below`."""
  def refuse(error):
    raise errors.UsageError(
        f'{error.filename!r} cannot be read: {error.strerror}')

  for parent, children, file_names in os.walk(
      directory, followlinks=True, onerror=refuse):
    here = os.path.realpath(parent)
    children[:] = [name for name in children
                   if not _contains(os.path.join(parent, name), here)]
    yield parent, children, file_names


def _contains(link: str, directory: str) -> bool:
  """Whether a link leads to a directory or to one above it."""
  if not os.path.islink(link):
    return False
  target = os.path.realpath(link)
  return os.path.commonpath([target, directory]) == target


def publish(temporary: str, final: str) -> None:
  """Gives a finished directory its name; none of that name may hold files.

  Args:
    temporary: The directory.
    final: Its name; on a file system that cannot rename directories, its files
      appear one by one, those whose names end in `.json` last.
  """
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  if '://' not in final:
    if os.path.isdir(final):
      os.rmdir(final)
    tf.io.gfile.rename(temporary, final)
    return
  tf.io.gfile.makedirs(final)
  for name in sorted(names(temporary), key=lambda name: name.endswith('.json')):
    tf.io.gfile.rename(os.path.join(temporary, name),
                       os.path.join(final, name), overwrite=True)
  tf.io.gfile.rmtree(temporary)


def replace_section(path: str, name: str, content: str) -> None:
  """Replaces the text between two markers of a Markdown file.

  Args:
    path: A file with the lines `<!-- name -->` and `<!-- /name -->`.
    name: Name of the section.
    content: The new text.
  """
  with open(path, encoding='utf-8') as f:
    text = f.read()
  start, end = f'<!-- {name} -->\n', f'<!-- /{name} -->'
  head, rest = text.split(start)
  write_atomically(path, f'{head}{start}{content}\n{end}{rest.split(end)[1]}')
