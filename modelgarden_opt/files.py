"""Files that are either whole or not there, on any file system of `tf.io`."""

from collections.abc import Iterator
import contextlib
import fcntl
import json
import os
import re
import tempfile
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
  with temporary(path) as name:
    write(name, content)
    rename(name, path)


def write(path: str, content: str | bytes) -> None:
  """Writes a file in place: one that `temporary` has named."""
  if '://' not in path:
    with open(path, 'wb') as f:
      f.write(content.encode() if isinstance(content, str) else content)
    return
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  with tf.io.gfile.GFile(path, 'wb') as f:
    f.write(content)


def _beside(path: str) -> str:
  return f'{path}.tmp-{uuid.uuid4().hex}'


@contextlib.contextmanager
def temporary(path: str) -> Iterator[str]:
  """Gives the name of an empty file beside one that is being made.

  It is removed at the end, if it was not renamed. Before, those are that killed
  processes left: a file is locked for as long as its process makes it.

  Args:
    path: The file that is being made; missing directories are created. One that
      is not local has no lock, and no empty file.
  """
  if '://' in path:
    make_directory(os.path.dirname(path))
    name = _beside(path)
    try:
      yield name
    finally:
      remove(name)
    return
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


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
  """Makes other processes that ask for the same wait, while a file is changed.

  Args:
    directory: Where the file is. One that is not local has no lock.
  """
  if '://' in directory:
    yield
    return
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):  # Not every file system has locks.
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)


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


def is_file(path: str) -> bool:
  """Whether there is a file, and no directory, of that name."""
  return exists(path) and not is_directory(path)


def is_directory(path: str) -> bool:
  """Whether there is a directory; of a local one without TensorFlow."""
  if '://' not in path:
    return os.path.isdir(path)
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  return tf.io.gfile.isdir(path)


def make_directory(path: str) -> None:
  """Makes a directory and those above it, unless they are there."""
  if '://' not in path:
    os.makedirs(path, exist_ok=True)
    return
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  tf.io.gfile.makedirs(path)


def remove(path: str) -> None:
  """Removes a file; nothing happens if there is none."""
  if '://' not in path:
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)
    return
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  if tf.io.gfile.exists(path):
    tf.io.gfile.remove(path)


def rename(path: str, final: str) -> None:
  """Gives a file another name; a file that has it is replaced."""
  if '://' not in path:
    os.replace(path, final)
    return
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  tf.io.gfile.rename(path, final, overwrite=True)


def size_and_time(path: str) -> tuple[int, float]:
  """Returns bytes of a file and when it was written, in seconds of the epoch.
  """
  if '://' not in path:
    found = os.stat(path)
    return found.st_size, found.st_mtime
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  found = tf.io.gfile.stat(path)
  return found.length, found.mtime_nsec / 1e9


def real(path: str) -> str:
  """Returns a path without links and relative parts, by which files compare."""
  return os.path.realpath(path) if '://' not in path else path.rstrip('/')


@contextlib.contextmanager
def local(path: str) -> Iterator[str]:
  """Gives a file a local path, for libraries that open files themselves.

  Args:
    path: The file; one that is remote is copied to a temporary directory. The
      path of one that is not there stays as it is.

  Yields:
    The local path, which lasts as long as the context.
  """
  if '://' not in path or not exists(path):
    yield path
    return
  with tempfile.TemporaryDirectory() as directory:
    copy = os.path.join(directory, os.path.basename(path))
    with open(copy, 'wb') as f:
      f.write(read_bytes(path))
    yield copy


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
