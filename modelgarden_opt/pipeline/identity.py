"""What a stage depends on and what it made, known by content."""

from collections.abc import Iterable
import functools
import hashlib
import os

import tensorflow as tf

from modelgarden_opt.modeling.state import whole

_CHUNK = 2**24


def of(paths: Iterable[str]) -> dict[str, str | None]:
  """Returns a digest of every path, None for what is not there.

  Args:
    paths: Files, and directories that stand for their latest checkpoint.
  """
  return {path: _of_path(path) for path in paths}


def _of_path(path: str) -> str | None:
  if not tf.io.gfile.isdir(path):
    return _of_files([path])
  prefix = whole.newest(path).prefix
  if prefix is None:
    return None
  name = os.path.basename(prefix) + '.'
  return _of_files(sorted(
      os.path.join(path, file) for file in tf.io.gfile.listdir(path)
      if file.startswith(name)))


def _of_files(paths: list[str]) -> str | None:
  digest = hashlib.sha256()
  for path in paths:
    try:
      stat = tf.io.gfile.stat(path)
    except tf.errors.NotFoundError:
      return None
    digest.update(os.path.basename(path).encode())
    digest.update(_of_content(path, stat.length, stat.mtime_nsec))
  return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=1024)
def _of_content(path: str, length: int, changed: int) -> bytes:
  """Reads a file again only if its size or time has changed."""
  del length, changed
  digest = hashlib.sha256()
  with tf.io.gfile.GFile(path, 'rb') as f:
    while chunk := f.read(_CHUNK):
      digest.update(chunk)
  return digest.digest()
