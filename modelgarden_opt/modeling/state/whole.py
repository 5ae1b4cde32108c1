"""Which checkpoints are whole; damaged ones are kept aside.

TensorFlow writes a checksum (CRC-32C) beside every tensor and every block of
the index, and compares it when it reads them. So reading everything is enough:
of 1,500 flipped bits in the data and 1,426 in the index, all that change what
is read were found; the 50 others are padding.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import os
import re
from typing import Any

from absl import logging
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt import files

# Where damaged files go, below the directory that they were in.
DAMAGED = 'damaged'
_STATE = 'checkpoint'
_FILE = re.compile(
    r'(?P<name>.+-(?P<step>\d+))\.(index|data-\d{5}-of-\d{5})')


@dataclasses.dataclass(frozen=True)
class Newest:
  """The newest whole checkpoint of a directory.

  Attributes:
    prefix: Its file prefix, None if there is none.
    damaged: What is wrong with newer ones, by file prefix, and with the file
      `checkpoint`.
  """
  prefix: str | None
  damaged: dict[str, str] = dataclasses.field(default_factory=dict)

  def told(self) -> str:
    """Returns what is damaged, for a message."""
    return '; '.join(f'{path!r} is damaged ({why})'
                     for path, why in self.damaged.items())


def reader_of(prefix: str) -> Any:
  """Returns TensorFlow's reader of the checkpoint with a file prefix.

  `tf.train.load_checkpoint` would look for a directory of that name first, and
  some file systems take the beginning of a name for one.
  """
  return tf.compat.v1.train.NewCheckpointReader(prefix)


def damage(prefix: str) -> str | None:
  """Returns what is wrong with a checkpoint, None if it is whole.

  Args:
    prefix: Its file prefix; every tensor of it is read.
  """
  if not files.exists(f'{prefix}.index'):
    return 'its index is missing'
  try:
    reader = reader_of(prefix)
    for name in reader.get_variable_to_shape_map():
      reader.get_tensor(name)
  except (tf.errors.OpError, IndexError, ValueError, RuntimeError) as e:
    return ' '.join(errors.of_op(e).split())[:200] or type(e).__name__
  return None


def step(prefix: str) -> int:
  """Returns the training step of a checkpoint of a run."""
  return int(prefix.rpartition('-')[2])


def newest(directory: str) -> Newest:
  """Finds the newest whole checkpoint of a directory; changes nothing.

  The one that the file `checkpoint` names is it, if it is whole.
  """
  damaged = {}
  named, problem = _named(directory)
  if problem:
    damaged[os.path.join(directory, _STATE)] = problem
  if named:
    problem = damage(named)
    if problem is None:
      return Newest(named, damaged)
    damaged[named] = problem
  for prefix in _prefixes(directory):
    if prefix == named:
      continue
    problem = damage(prefix)
    if problem is None:
      return Newest(prefix, damaged)
    damaged[prefix] = problem
  return Newest(None, damaged)


def _named(directory: str) -> tuple[str | None, str | None]:
  """Returns the checkpoint that `checkpoint` names, and what is wrong with it.
  """
  path = os.path.join(directory, _STATE)
  if not files.exists(path):
    return None, None
  try:
    state = tf.train.get_checkpoint_state(directory)
  except (ValueError, UnicodeDecodeError):
    state = None  # It is empty.
  if state is None:
    return None, 'it names no checkpoint'
  prefix = state.model_checkpoint_path
  moved = os.path.join(directory, os.path.basename(prefix))
  # The path is absolute in some, and the directory may have been moved.
  return moved if files.exists(f'{moved}.index') else prefix, None


def _prefixes(directory: str) -> Iterator[str]:
  """Yields the file prefixes of all checkpoints, those of late steps first."""
  found = {match['name']: int(match['step'])
           for name in files.names(directory)
           if (match := _FILE.fullmatch(name))}
  for name in sorted(found, key=found.get, reverse=True):
    yield os.path.join(directory, name)


def latest(directory: str, field: str = '') -> str | None:
  """Returns the newest whole checkpoint to read, None if there is none.

  Says so if newer ones are damaged; nothing is moved.

  Args:
    directory: Directory of checkpoints.
    field: Name of the configuration field or flag that led there.

  Raises:
    UsageError: If there are some, and none of them is whole.
  """
  found = newest(directory)
  if found.prefix is None and found.damaged:
    raise errors.UsageError(
        f'{field}: {directory!r} holds no whole checkpoint: {found.told()}')
  if found.damaged:
    logging.warning('%s; %r is taken, the newest whole one.',
                    found.told(), found.prefix)
  return found.prefix


def recover(directory: str, max_to_keep: int | None = None) -> Newest:
  """Makes the newest whole checkpoint the latest one of a run that resumes.

  Newer ones that are damaged are moved to `damaged/`, and the file `checkpoint`
  names what is left. Nothing is done where nothing is damaged.

  Args:
    directory: A directory that this process writes to.
    max_to_keep: How many checkpoints it keeps. A process that was killed while
      it removed older ones has left too many.
  """
  found = newest(directory)
  if not found.damaged:
    if found.prefix is not None:
      if not files.exists(os.path.join(directory, _STATE)):
        # Killed after the first checkpoint and before the file that names it.
        name_latest(directory, [*_prefixes(directory)][::-1])
      _remove_half_written(directory, found.prefix)
      _remove_old(directory, max_to_keep)
    return found
  kept = _move_aside(directory, found.damaged)
  left = [*_prefixes(directory)][::-1]
  state = os.path.join(directory, _STATE)
  if found.prefix is not None:
    name_latest(directory, [
        *(prefix for prefix in left if prefix != found.prefix), found.prefix])
  elif files.exists(state):
    tf.io.gfile.remove(state)
  logging.warning(
      '%s: moved to %r. %s', found.told(), kept,
      f'{found.prefix!r} is the newest whole checkpoint.' if found.prefix
      else 'No whole checkpoint is left.')
  return found


def _remove_half_written(directory: str, latest_prefix: str) -> None:
  """Removes what a process left that was killed while it saved a checkpoint.

  The file `checkpoint` is written last, so it does not name that one.
  """
  for prefix in _prefixes(directory):
    if step(prefix) > step(latest_prefix) and damage(prefix):
      _remove(prefix)


def _remove_old(directory: str, max_to_keep: int | None) -> None:
  state = tf.train.get_checkpoint_state(directory)
  listed = [] if state is None else [*state.all_model_checkpoint_paths]
  old = listed[:-max_to_keep] if max_to_keep else []
  for prefix in old:
    _remove(prefix)
  there = [prefix for prefix in listed if files.exists(f'{prefix}.index')]
  if there and there != listed:
    name_latest(directory, there)


def _remove(prefix: str) -> None:
  for path in tf.io.gfile.glob(f'{prefix}.*'):
    tf.io.gfile.remove(path)


def name_latest(directory: str, prefixes: Sequence[str]) -> None:
  """Writes the file `checkpoint`.

  Args:
    directory: Directory of the checkpoints.
    prefixes: File prefixes of all of them, the latest one last.
  """
  names = [os.path.basename(prefix) for prefix in prefixes]
  times = [_time_of(prefix) for prefix in prefixes]
  files.write_atomically(os.path.join(directory, _STATE), ''.join([
      f'model_checkpoint_path: "{names[-1]}"\n',
      *(f'all_model_checkpoint_paths: "{name}"\n' for name in names),
      *(f'all_model_checkpoint_timestamps: {time!r}\n' for time in times),
      # What is not later than it is kept for good.
      f'last_preserved_timestamp: {min(times) - 1.0!r}\n']))


def _time_of(prefix: str) -> float:
  """Returns when a checkpoint was written, in seconds since 1970."""
  return tf.io.gfile.stat(f'{prefix}.index').mtime_nsec / 1e9


def _move_aside(directory: str, damaged: dict[str, str]) -> str:
  """Moves the files of damaged checkpoints; returns where they are now."""
  number, target = 1, os.path.join(directory, DAMAGED)
  while files.exists(target):
    number += 1
    target = os.path.join(directory, f'{DAMAGED}-{number}')
  tf.io.gfile.makedirs(target)
  for name in files.names(directory):
    path = os.path.join(directory, name)
    match = _FILE.fullmatch(name)
    if path in damaged or match and os.path.join(
        directory, match['name']) in damaged:
      tf.io.gfile.rename(path, os.path.join(target, name))
  return target
