"""The paths that flags give: what is wrong with them is told before any work.
"""

import argparse
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import errno
import os
import re
import traceback

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.cli import config_flags

# Flags that give paths, by their names in the parsed arguments.
_READ = ('a', 'b', 'benchmark', 'check', 'checkpoint', 'config_file', 'data',
         'evaluation', 'export', 'files', 'gin_file', 'image', 'images',
         'labels', 'model_dir', 'path', 'pipeline', 'results', 'runs', 'source',
         'source_dir', 'tflite', 'user_space')
_FILES = ('output', 'output_html', 'output_json', 'predictions')
_DIRECTORIES = ('c_array', 'output_dir', 'log_dir')
# Commands that write into their run directory.
_MAKE_RUNS = ('train', 'run')
_MAX_PATH = 4096
# Of the 255 bytes of a name, those of a temporary file need 37 more.
_MAX_NAME = 218
# Of bytes that are not UTF-8, TensorFlow makes no path.
_NO_PATH = re.compile('[\0\ud800-\udfff]')
# Where Python's and TensorFlow's file systems raise.
_NO_SPACE = os.strerror(errno.ENOSPC)
_MAKE_ROOM = '; make room, and run the same command again'
_UNWRITABLE = tuple(map(os.strerror, (
    errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EIO)))
_OF_FILES = re.compile(r'tensorflow/python/(lib/io|training/checkpoint|'
                       r'checkpoint)')


def prepare(args: argparse.Namespace, reach: bool = True) -> None:
  """Expands `~` in all paths, and checks where the command will write.

  Args:
    args: The arguments of a command; changed in place.
    reach: Whether remote paths are asked for, which takes TensorFlow.

  Raises:
    UsageError: One message with all paths that cannot be.
  """
  problems = []
  written = {name: False for name in _FILES}
  written |= {name: True for name in _DIRECTORIES}
  if args.command in _MAKE_RUNS:
    written['model_dir'] = True
  given: dict[str, list[str]] = {}
  for name in (*_READ, *_FILES, *_DIRECTORIES):
    value = getattr(args, name, None)
    if isinstance(value, list):
      given[name] = [_expanded(name, path, problems) for path in value]
      setattr(args, name, given[name])
    elif isinstance(value, str):
      given[name] = [_expanded(name, value, problems)]
      setattr(args, name, *given[name])
  if not problems:
    for name, directory in written.items():
      problems += _unwritable(name, getattr(args, name, None), directory)
    problems = problems or [*_replaced(given)]
  if not problems and reach:
    problems += _unreachable(given)
  if problems:
    raise errors.UsageError('\n'.join(problems))


def _expanded(name: str, path: str, problems: list[str]) -> str:
  """Returns a path without `~`."""
  if _NO_PATH.search(path) or len(path) > _MAX_PATH:
    problems.append(f'{name}: is no path, received {path[:60]!r}')
    return path
  found = files.expanded(path)
  if found.startswith('~') and not os.path.exists(found):
    problems.append(f'{name}: there is no home directory for {path!r}')
  return found


def _replaced(given: Mapping[str, Sequence[str]]) -> Iterator[str]:
  """Yields which flags would write a file that another one names."""
  names: dict[str, str] = {}
  for name, paths in given.items():
    for path in filter(None, paths):
      first = names.setdefault(files.real(path), name)
      if name in _FILES and first != name:
        yield f'{name}: {path!r} is what {first} names, and would be replaced'


def _unreachable(given: Mapping[str, Sequence[str]]) -> Iterator[str]:
  """Yields why a remote file system cannot be asked for a path."""
  if not any('://' in path for paths in given.values() for path in paths):
    return
  config_flags.import_tensorflow()
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  for name, paths in given.items():
    for path in paths:
      try:
        files.exists(path)
      except tf.errors.OpError as e:
        yield (f'{name}: {path!r} cannot be reached: '
               f'{" ".join(errors.of_op(e).split())}')


def _unwritable(
    name: str, path: str | None, directory: bool) -> Iterator[str]:
  """Yields why a file or a directory cannot be made."""
  if not path or '://' in path:
    return
  if len(os.fsencode(os.path.basename(path))) > _MAX_NAME:
    yield f'{name}: a name has {_MAX_NAME} bytes at most, received {path!r}'
    return
  if directory and os.path.exists(path) and not os.path.isdir(path):
    yield f'{name}: {path!r} is there, and no directory'
    return
  if not directory and os.path.isdir(path):
    yield f'{name}: {path!r} is a directory'
    return
  parent = path if directory else os.path.dirname(path) or '.'
  while parent and not os.path.lexists(parent):
    parent = os.path.dirname(parent)
  parent = parent or '.'
  if not os.path.isdir(parent):
    yield f'{name}: {parent!r}, on the way to {path!r}, is no directory'
  elif not os.access(parent, os.W_OK | os.X_OK) or _is_read_only(parent):
    yield f'{name}: {path!r} cannot be made: {parent!r} is not writable'


def _is_read_only(directory: str) -> bool:
  """Whether a file system takes no files, whoever asks."""
  real = os.path.realpath(directory)
  return any(real == top or real.startswith(f'{top}/')
             for top in ('/proc', '/sys')) or bool(
                 os.statvfs(directory).f_flag & os.ST_RDONLY)


def told(error: BaseException) -> str | None:
  """Returns an error of a file system in one line, None for any other error.

  Args:
    error: What a command raised.
  """
  if isinstance(error, OSError) and error.errno is not None:
    names = [repr(name) for name in (error.filename, error.filename2) if name]
    text = f'{" and ".join(names) or "a file"}: {error.strerror}'
    if error.errno == errno.ENOSPC:
      text += _MAKE_ROOM
    return text
  if not hasattr(error, 'error_code'):  # Not one of TensorFlow.
    return None
  text = ' '.join(errors.of_op(error).split())[:300]
  if _NO_SPACE in text:
    return text + _MAKE_ROOM
  frames = traceback.extract_tb(error.__traceback__)
  if any(reason in text for reason in _UNWRITABLE) or (
      frames and _OF_FILES.search(frames[-1].filename)):
    return text
  return None
