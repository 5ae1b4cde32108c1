"""What a user finds where a command has ended, and what is left over there."""

from collections.abc import Iterator
import hashlib
import io
import json
import os
import re
from typing import Any

import numpy as np
import tensorflow as tf

from modelgarden_opt.modeling.state import whole

# Names of what is only there while it is made.
_LEFTOVER = re.compile(r'.*(\.tmp|_temp|\.partial|lock\.json|damaged).*')
# Differ from run to run, or say how fast it was.
_VARYING = re.compile(
    r'time|steps_per_second|id|.*(seconds|_ms|_us|digest|date|commit)|inputs|'
    r'outputs|environment|command|host|pid|since|created|sentence|'
    r'ratio(_low|_high)?')
# Read by people: they say how fast something was.
_FOR_PEOPLE = ('.html', 'log.txt')
_INDEX = '.index'
# Counts how often a manager saved, whatever it was.
_UNCOMPARED = ('save_counter', '_CHECKPOINTABLE_OBJECT_GRAPH')


def leftovers(directory: str) -> list[str]:
  """Returns what should have been removed, relative to the directory."""
  return [path for path in _paths(directory) if _LEFTOVER.fullmatch(path)]


def half_written(directory: str, ends: dict[str, str]) -> list[str]:
  """Returns files under their final names that are not whole.

  Args:
    directory: Where a command was killed.
    ends: What `state` found where one was not; a file of the same name must be
      readable.
  """
  found = []
  for path in _paths(directory):
    if _LEFTOVER.fullmatch(path) or path.endswith('.jsonl'):
      continue  # Lines are added to the latter one by one.
    full = os.path.join(directory, path)
    if os.path.isdir(full):
      continue
    # Checkpoints that `checkpoint` names are read below; logs begin empty.
    if path.endswith((_INDEX, 'log.txt')):
      continue
    try:
      if _of_file(full) == 'empty' and ends.get(path) != 'empty':
        found.append(f'{path} is empty')
    except Exception as e:  # pylint: disable=broad-except
      found.append(f'{path}: {type(e).__name__}')
  for parent in {os.path.dirname(path) for path in _paths(directory)
                 if os.path.basename(path) == 'checkpoint'}:
    problem = whole.newest(os.path.join(directory, parent)).told()
    if problem:
      found.append(problem)
  return found


def state(directory: str) -> dict[str, str]:
  """Returns a digest of the content of every file, by relative path.

  Of checkpoints, JSON and arrays it is what is in them; of event files nothing.
  """
  found = {}
  for path in _paths(directory):
    full = os.path.join(directory, path)
    if path.endswith(_INDEX):
      found |= {f'{path}: {name}': digest for name, digest in _of_checkpoint(
          full.removesuffix(_INDEX)).items()}
    elif path.endswith('.jsonl'):
      with open(full, 'rb') as f:
        lines = [_of_line(line) for line in f]
      found |= {f'{path}: line {number}: {line[:300]}': _digest(line.encode())
                for number, line in enumerate(lines)}
    elif not os.path.isdir(full):
      found[path] = _of_file(full)
  return found


def differences(expected: dict[str, str], actual: dict[str, str]) -> list[str]:
  """Returns what is different between two ends, in words."""
  return [
      f'{path} is missing' if path not in actual else
      f'{path} is there' if path not in expected else f'{path} differs'
      for path in sorted({*expected, *actual})
      if expected.get(path) != actual.get(path)]


def _paths(directory: str) -> Iterator[str]:
  """Yields all paths but event files, whose names have times."""
  for parent, children, names in os.walk(directory):
    for name in [*names, *children]:
      if not name.startswith('events.out.tfevents'):
        yield os.path.relpath(os.path.join(parent, name), directory)


def _of_line(line: bytes) -> str:
  try:
    return json.dumps(_plain(json.loads(line)))
  except ValueError:
    return f'damaged: {line!r}'


def _of_file(path: str) -> str:
  if '.data-' in os.path.basename(path):
    return 'data'  # See its index.
  with open(path, 'rb') as f:
    content = f.read()
  if not content:
    return 'empty'
  if path.endswith(_FOR_PEOPLE):
    return 'text'
  if os.path.basename(path) == 'checkpoint':
    content = [line for line in content.decode().splitlines()
               if 'timestamp' not in line]
  elif path.endswith('.json'):
    content = _plain(json.loads(content))
  elif path.endswith('.yaml'):
    content = [line for line in content.decode().splitlines()
               if not line.startswith('#')]
  elif path.endswith('.npz'):
    with np.load(io.BytesIO(content)) as arrays:
      content = [(name, _digest(arrays[name].tobytes()))
                 for name in sorted(arrays)]
  return _digest(content if isinstance(content, bytes)
                 else json.dumps(content, sort_keys=True).encode())


def _of_checkpoint(prefix: str) -> dict[str, str]:
  reader = tf.train.load_checkpoint(prefix)
  return {name: _digest(np.asarray(reader.get_tensor(name)).tobytes())
          for name in sorted(reader.get_variable_to_shape_map())
          if not name.startswith(_UNCOMPARED)}


def _plain(value: Any) -> Any:
  """Returns a value without what varies."""
  if isinstance(value, dict):
    return {key: _plain(item) for key, item in value.items()
            if not _VARYING.fullmatch(key)}
  return [_plain(item) for item in value] if isinstance(value, list) else value


def _digest(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()[:16]
