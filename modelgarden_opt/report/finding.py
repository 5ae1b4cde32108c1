"""Finds what other commands wrote below one or more directories.

Files are told apart by what they hold, not by their names, so that a report
needs nothing but directories. What is newer replaces what is older.
"""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import os
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files

# Directories that hold nothing to report: earlier runs and checkpoints.
_SKIPPED = ('outdated', 'best_ckpt', 'train', 'validation')
RUN_PARAMS = 'params.yaml'
# In a run directory: a line for every `evaluate` of it.
EVALUATIONS = 'evaluations.jsonl'
# A checkpoint lies at most so deep in its run directory.
_DEPTH = 3
# A JSON file beyond this is not one of ours.
_MAX_BYTES = 64 << 20


def _first(value: Any) -> Mapping[str, Any]:
  """Returns the first of the results of a file, {} if there is none."""
  results = value.get('results')
  first = results[0] if isinstance(results, list) and results else {}
  return first if isinstance(first, Mapping) else {}


# Kind of a JSON file -> whether a value is of that kind; the first one wins.
_KINDS = {
    'benchmark': lambda v: 'environment' in v and 'median_ms' in _first(v),
    'evaluation': lambda v: 'metrics' in _first(v),
    'target': lambda v: {'device', 'tool'} <= _first(v).keys(),
    'analysis': lambda v: isinstance(v.get('layers'), list),
    'search': lambda v: isinstance(v.get('trials'), list),
    'samples': lambda v: isinstance(v.get('samples'), list),
    'earlier': lambda v: isinstance(v.get('variants'), list),
    'record': lambda v: {'commands', 'outputs'} <= v.keys(),
    'export': lambda v: {'model', 'kernels', 'ops'} <= v.keys(),
}


def kind_of(value: Any) -> str:
  """Returns which command wrote the value of a JSON file, '' if none did."""
  if not isinstance(value, Mapping):
    return ''
  return next((kind for kind, fits in _KINDS.items() if fits(value)), '')


@dataclasses.dataclass
class Found:
  """What lies below some directories.

  Attributes:
    roots: The directories.
    files: Paths of all `.tflite` files, sorted.
    runs: Run directories, sorted.
    predictions: Paths of the `.npz` files of `evaluate --predictions`.
    values: Contents of JSON files with their path, by kind, oldest first.
  """
  roots: Sequence[str]
  files: list[str] = dataclasses.field(default_factory=list)
  runs: list[str] = dataclasses.field(default_factory=list)
  predictions: list[str] = dataclasses.field(default_factory=list)
  values: dict[str, list[tuple[str, Any]]] = dataclasses.field(
      default_factory=lambda: {kind: [] for kind in _KINDS})

  def of(self, kind: str) -> list[Any]:
    """Returns the contents of the JSON files of one kind, oldest first."""
    return [value for _, value in self.values[kind]]

  def path_of(self, model: str) -> str:
    """Returns the file that a record calls `model`.

    Records name files as the command was given them: relative to another
    directory, or where the files were before they were moved. Then it is the
    file whose path ends like it.
    """
    if files.exists(model):
      return files.real(model)
    return _ending_like(model, self.files) or model

  def run_of(self, checkpoint: str) -> str:
    """Returns the run directory of a checkpoint, '' if it is not known.

    As for `path_of`, the directory may have moved since it was written down.
    """
    path = files.real(checkpoint)
    for _ in range(_DEPTH):
      if files.exists(os.path.join(path, RUN_PARAMS)):
        return path
      path = os.path.dirname(path)
    path = checkpoint
    for _ in range(_DEPTH):
      run = _ending_like(path, [files.real(r) for r in self.runs])
      if run:
        return run
      path = os.path.dirname(path)
    return ''


def _ending_like(path: str, known: Sequence[str]) -> str:
  """Returns the one known path that ends most like another, '' if none does."""
  parts = path.split('/')[::-1]
  scores = {k: _common(k.split('/')[::-1], parts) for k in dict.fromkeys(known)}
  best = max(scores.values(), default=0)
  fitting = [k for k, score in scores.items() if score == best]
  return fitting[0] if best and len(fitting) == 1 else ''


def short(paths: Sequence[str]) -> dict[str, str]:
  """Returns names of paths: as much of their ends as tells them apart."""
  names = {path: os.path.basename(path) for path in paths}
  for _ in range(max((p.count('/') for p in paths), default=0)):
    counts = collections.Counter(names.values())
    for path, name in names.items():
      rest = path[:-len(name)].rstrip('/')
      if counts[name] > 1 and rest:
        names[path] = f'{os.path.basename(rest)}/{name}'
  return names


def _common(a: Sequence[str], b: Sequence[str]) -> int:
  """Returns how many items two sequences have in common from the start."""
  return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y),
              min(len(a), len(b)))


def find(roots: Sequence[str]) -> Found:
  """Returns what lies below directories.

  Raises:
    UsageError: If one of them is not a directory, or holds neither a `.tflite`
      file nor a record of one.
  """
  found = Found(roots)
  dated = []
  for root in roots:
    if not files.is_directory(root):
      raise errors.UsageError(f'runs: there is no directory {root!r}')
    for path in _paths(root):
      _add(found, dated, path)
  found.files = sorted(set(found.files))
  for _, path in sorted(dated):
    for value in _read(path):
      if path.endswith(EVALUATIONS):
        value = _below(found, value)
      if kind_of(value):
        found.values[kind_of(value)].append((path, value))
  if not (found.files or found.of('export') or found.of('evaluation')):
    raise errors.UsageError(
        f'runs: neither a .tflite file nor the JSON output of `export` or '
        f'`evaluate` below {", ".join(map(repr, roots))}')
  return found


def _below(found: Found, value: Any) -> Any:
  """Returns what a run remembers of an evaluation, without files elsewhere.

  Others have used the run as their reference: a search, or a pipeline.
  """
  results = value.get('results') if isinstance(value, Mapping) else None
  if not isinstance(results, list):
    return value
  roots = [os.path.join(files.real(root), '') for root in found.roots]

  def is_elsewhere(result):
    model = str(result.get('model', '')) if isinstance(result, Mapping) else ''
    return model.endswith('.tflite') and files.exists(model) and not (
        files.real(model).startswith(tuple(roots)))

  return {**value, 'results': [r for r in results if not is_elsewhere(r)]}


def given(
    evaluations: Iterable[Any], benchmarks: Iterable[Any],
    exports: Iterable[Any],
) -> Found:
  """Returns what JSON files hold that were named one by one."""
  found = Found([])
  for kind, values in (('evaluation', evaluations), ('benchmark', benchmarks),
                       ('export', exports)):
    found.values[kind] = [('', value) for value in values]
  return found


def _paths(directory: str) -> Iterator[str]:
  """Yields the paths of files below a directory, without those to skip."""
  for name in files.names(directory):
    path = os.path.join(directory, name)
    if not files.is_directory(path):
      # Of `a` and `ab/c`, TensorFlow's memory lists a `b/c` below `a`.
      if files.exists(path):
        yield path
    elif not (name in _SKIPPED or name.startswith('.')
              or os.path.islink(path)):
      yield from _paths(path)


def _add(found: Found, dated: list[tuple[float, str]], path: str) -> None:
  """Adds one file; JSON files are read later, in the order of their dates."""
  if path.endswith('.tflite'):
    found.files.append(files.real(path))
  elif path.endswith('predictions.npz'):
    found.predictions.append(path)
  elif os.path.basename(path) == RUN_PARAMS:
    found.runs.append(os.path.dirname(path))
  elif path.endswith('.json') or os.path.basename(path) == EVALUATIONS:
    size, written = files.size_and_time(path)
    if size <= _MAX_BYTES:
      dated.append((written, path))


def _read(path: str) -> Iterator[Any]:
  """Yields the value of a JSON file, or that of each line; of others nothing.
  """
  try:
    text = files.read_bytes(path).decode()
    for part in text.split('\n') if path.endswith(EVALUATIONS) else [text]:
      # A line that was cut off, or what nobody writes.
      with contextlib.suppress(ValueError, RecursionError):
        yield json.loads(part)
  except (ValueError, OSError):
    return
