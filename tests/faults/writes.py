"""Kills this process at its n-th write: SIGKILL, as a machine that is lost.

What writes is wrapped: `open` and what TensorFlow has in its place, renaming,
removing, directories, checkpoints and TFRecords. Before and after each of them
is a moment in which a process may die, and half-way through what is written.
"""

import builtins
from collections.abc import Callable
import functools
import os
import signal
from typing import Any

import tensorflow as tf
from tensorflow.python.lib.io import file_io
from tensorflow.python.ops import io_ops


class Killer:
  """Counts the moments of a process, and kills it in one of them."""

  def __init__(self, directory: str, at: int | None = None):
    """Initializes the killer.

    Args:
      directory: Only what is written below it counts.
      at: Number of the moment, from 1; None only counts.
    """
    self._directory = os.path.realpath(directory)
    self._at = at
    self.count = 0

  def moment(self) -> None:
    """Kills the process if this is the moment."""
    self.count += 1
    if self.count == self._at:
      os.kill(os.getpid(), signal.SIGKILL)

  def is_next(self) -> bool:
    return self.count + 1 == self._at

  def counts(self, path: Any) -> bool:
    """Whether a path is below the directory."""
    if not isinstance(path, (str, os.PathLike)):
      return False
    return os.path.realpath(os.fspath(path)).startswith(self._directory)


class _File:
  """A file that Python writes; half of what it writes may be the last."""

  def __init__(self, file: Any, killer: Killer):
    self._file, self._killer = file, killer

  def write(self, data):
    if self._killer.is_next():
      self._file.write(data[:len(data) // 2])
      self._file.flush()
    self._killer.moment()
    written = self._file.write(data)
    self._killer.moment()
    return written

  def __getattr__(self, name):
    return getattr(self._file, name)

  def __enter__(self):
    self._file.__enter__()
    return self

  def __exit__(self, *error):
    return self._file.__exit__(*error)

  def __iter__(self):
    return iter(self._file)


def _around(function: Callable, killer: Killer) -> Callable:
  """Returns a function with a moment before and one after it."""

  @functools.wraps(function)
  def wrapped(*args, **kwargs):
    counts = any(killer.counts(arg) for arg in args)
    if counts:
      killer.moment()
    result = function(*args, **kwargs)
    if counts:
      killer.moment()
    return result

  return wrapped


def install(killer: Killer) -> None:
  """Wraps everything that writes, for the rest of this process."""
  opened = builtins.open

  def open_(file, mode='r', *args, **kwargs):
    found = opened(file, mode, *args, **kwargs)
    if set(mode) & set('wax+') and killer.counts(file):
      killer.moment()  # It is empty.
      return _File(found, killer)
    return found

  builtins.open = open_
  for name in ('replace', 'rename', 'remove', 'unlink', 'rmdir', 'mkdir'):
    setattr(os, name, _around(getattr(os, name), killer))
  for module, names in (
      (file_io, ('rename_v2', 'delete_file_v2', 'recursive_create_dir_v2',
                 'delete_recursively_v2', 'copy_v2', 'rename', 'delete_file')),
      (tf.io.gfile, ('rename', 'remove', 'makedirs', 'rmtree', 'copy'))):
    for name in names:
      setattr(module, name, _around(getattr(module, name), killer))
  write = file_io.FileIO.write

  def write_(self, content):
    counts = killer.counts(self.name)
    if counts and killer.is_next():
      write(self, content[:len(content) // 2])
      self.flush()
    if counts:
      killer.moment()
    write(self, content)
    if counts:
      self.flush()
      killer.moment()

  file_io.FileIO.write = write_
  _wrap_ops(killer)


def _wrap_ops(killer: Killer) -> None:
  """Wraps what TensorFlow writes by ops and by its writer of records."""
  for name in ('save_v2', 'merge_v2_checkpoints'):
    function = getattr(io_ops, name)

    def wrapped(*args, function=function, **kwargs):
      killer.moment()
      result = function(*args, **kwargs)
      killer.moment()
      return result

    setattr(io_ops, name, wrapped)
  writer, close = tf.io.TFRecordWriter, tf.io.TFRecordWriter.close

  def close_(self):
    killer.moment()
    close(self)
    killer.moment()

  writer.close = close_
