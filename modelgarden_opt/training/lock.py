"""One process writes a run directory: it holds the lock of `lock.json`.

The lock is the operating system's (flock): it is released when its process
ends, however that happens, on a local disk as on NFS. So a file that a killed
process left locks nobody out, and a process of the same number is not taken for
it. What the file says is for the message.
"""

from collections.abc import Iterator
import contextlib
import datetime
import errno
import fcntl
import json
import os
import re
import shutil
import socket
import sys
from typing import Any

from absl import logging

from modelgarden_opt import errors
from modelgarden_opt import files

NAME = 'lock.json'
# Of file systems without locks, such as some that are mounted from a bucket.
_NO_LOCKS = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)
# What TensorFlow leaves when it is killed while it saves a checkpoint.
_OF_TENSORFLOW = r'checkpoint\.tmp[0-9a-f]{32}|.+-\d+_temp'


@contextlib.contextmanager
def held(model_dir: str) -> Iterator[None]:
  """Holds the lock of a directory for as long as the context lasts.

  A directory that is made for it, and is empty at the end, is removed. On a
  remote file system there is no lock.

  Args:
    model_dir: The run directory, or that of a pipeline.

  Raises:
    UsageError: If another process holds it.
  """
  if '://' in model_dir:
    yield
    return
  made = _make(model_dir)
  path = os.path.join(model_dir, NAME)
  try:
    with _locked(path, model_dir):
      yield
  finally:
    for directory in made:
      with contextlib.suppress(OSError):  # It is not empty.
        os.rmdir(directory)


def _make(directory: str) -> list[str]:
  """Makes a directory; returns those that were missing, the deepest first."""
  made, parent = [], os.path.abspath(directory)
  while not os.path.exists(parent):
    made.append(parent)
    parent = os.path.dirname(parent)
  os.makedirs(directory, exist_ok=True)
  return made


@contextlib.contextmanager
def _locked(path: str, model_dir: str) -> Iterator[None]:
  """Holds the lock of a file, which is removed at the end."""
  file = _open(path)
  while file is not None and not _is(file, path):
    file.close()  # Its process has ended and removed it in between.
    file = _open(path)
  if file is None:
    raise errors.UsageError(
        f'model_dir: {model_dir!r} is in use: {_told(_read(path))}; wait for '
        'it or stop it, or give another directory')
  with file:
    before = _read(path)
    if before.get('pid'):
      logging.warning('%r: %s has ended without removing its lock.',
                      model_dir, _told(before))
    file.truncate(0)
    file.write(json.dumps({
        'pid': os.getpid(), 'host': socket.gethostname(),
        'since': datetime.datetime.now().isoformat(' ', 'seconds'),
        'command': sys.argv[:12]}) + '\n')
    file.flush()
    try:
      yield
    finally:
      with contextlib.suppress(OSError):
        os.remove(path)


def _open(path: str):
  """Returns the file with its lock, None if another process has that."""
  # Not `with`: it is open for as long as it is locked.
  file = open(path, 'a+', encoding='utf-8')  # pylint: disable=consider-using-with
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.close()
    return None
  except OSError as e:
    if e.errno not in _NO_LOCKS:
      file.close()
      raise
  return file


def _is(file, path: str) -> bool:
  """Whether an open file is still the one of that name."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
  except FileNotFoundError:
    return False


def _read(path: str) -> dict[str, Any]:
  """Returns what a lock says, nothing if it is damaged."""
  try:
    found = json.loads(files.read_bytes(path))
  except (OSError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}


def _told(lock: dict[str, Any]) -> str:
  """Returns who holds a lock, for a message."""
  if not lock.get('pid'):
    return 'another process'
  return (f'process {lock["pid"]} on {lock.get("host")!r} '
          f'since {lock.get("since")}')


def sweep(directory: str) -> None:
  """Removes what killed processes left of files that they were writing.

  Args:
    directory: A directory whose lock this process holds, or one below it.
  """
  if '://' in directory:
    return
  files.sweep(directory)
  for name in files.names(directory):
    if re.fullmatch(_OF_TENSORFLOW, name):
      path = os.path.join(directory, name)
      if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
      else:
        os.remove(path)
