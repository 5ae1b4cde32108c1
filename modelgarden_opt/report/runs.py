"""One run directory: its configuration, its curves, what it started from."""

from collections.abc import Mapping
import dataclasses
import json
import os
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import techniques
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs.reading import yaml_file
from modelgarden_opt.configs.schema import marks
from modelgarden_opt.report import finding

_METRICS = 'metrics.jsonl'
# Value of a field that a configuration does not have.
_MISSING = object()


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run directory says of itself.

  Attributes:
    directory: Its real path.
    params: Content of `params.yaml`.
    metrics: Records of `metrics.jsonl`.
    source: Run directory whose weights it started from, '' for none.
  """
  directory: str
  params: Mapping[str, Any]
  metrics: list[dict[str, Any]]
  source: str = ''

  @property
  def task(self) -> Mapping[str, Any]:
    """The configuration of its task."""
    return _block(self.params, 'task')

  @property
  def experiment(self) -> str:
    """The registered experiment, '' if it does not say."""
    return _text(self.task.get('name'))

  @property
  def blocks(self) -> dict[str, Mapping[str, Any]]:
    """The blocks of the techniques that it switches on, by name."""
    found = {name: self.task.get(name) for name in techniques.TECHNIQUES}
    return {name: block for name, block in found.items()
            if isinstance(block, Mapping)}

  @property
  def steps(self) -> int:
    """Steps that it trained, 0 if it did not."""
    return max((r['step'] for r in self.metrics), default=0)

  @property
  def checkpoint(self) -> str:
    """What it started from, '' for nothing."""
    paths = [block.get('pretrained_original_checkpoint')
             for block in self.blocks.values()]
    paths.append(self.task.get('init_checkpoint'))
    return next((p for p in reversed(paths) if _text(p)), '')

  @property
  def class_names(self) -> list[str]:
    """Names of the classes, [] if they are not known."""
    embedded = catalog.DATA_SETS.get(_text(
        _block(self.task, 'train_data').get('embedded_name')))
    names = self.task.get('class_names') or (
        embedded.classes if embedded else ())
    names = [*filter(_text, names)] if isinstance(names, (list, tuple)) else []
    number = _block(self.task, 'model').get('num_classes')
    return names if len(names) == number else []


def _block(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
  """Returns a block, empty where it is off or no block: nobody checked it."""
  found = values.get(name)
  return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str:
  return value if isinstance(value, str) else ''


def load_all(found: finding.Found) -> dict[str, Run]:
  """Returns all runs by directory, those that others started from included."""
  runs: dict[str, Run] = {}
  pending = [files.real(d) for d in found.runs] + [
      found.run_of(e['checkpoint']) for e in found.of('export')
      if e.get('checkpoint')]
  while pending:
    directory = pending.pop()
    if not directory or directory in runs:
      continue
    run = load(directory)
    source = found.run_of(run.checkpoint) if run.checkpoint else ''
    runs[directory] = dataclasses.replace(
        run, source='' if source == directory else source)
    pending.append(source)
  return dict(sorted(runs.items()))


def load(directory: str) -> Run:
  """Returns what a run directory says of itself; what it lacks is empty."""
  try:
    params = marks.plain(yaml_file.load(
        os.path.join(directory, finding.RUN_PARAMS)))
  except errors.UsageError:
    params = {}
  return Run(directory, params, _metrics(os.path.join(directory, _METRICS)))


def _metrics(path: str) -> list[dict[str, Any]]:
  """Returns the records of a run in order; a line cut in two is left out."""
  if not files.exists(path):
    return []
  found = []
  for line in files.read_bytes(path).decode(errors='replace').split('\n'):
    try:
      record = json.loads(line)
    except (ValueError, RecursionError):
      continue
    if isinstance(record, dict) and isinstance(record.get('step'), int):
      found.append(record)
  return found


def flat(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Returns the fields of nested mappings by dotted path."""
  found = {}
  for key, value in values.items():
    path = f'{prefix}{key}'
    if isinstance(value, Mapping) and value:
      found |= flat(value, f'{path}.')
    else:
      found[path] = value
  return found


def differences(runs: Mapping[str, Run]) -> list[tuple[str, list[Any]]]:
  """Returns the fields in which runs differ.

  Args:
    runs: By name.

  Returns:
    Dotted path of a field, and its value in every run; None where a run lacks
    it.
  """
  fields = [flat(run.params) for run in runs.values()]
  names = dict.fromkeys(name for values in fields for name in values)
  columns = {name: [f.get(name, _MISSING) for f in fields]
             for name in sorted(names)}
  # A run without a block says so once, not in every field of it.
  blocks = {name for name, values in columns.items() if None in values and
            any(other.startswith(f'{name}.') for other in columns)}
  found = []
  for name, values in columns.items():
    if name in blocks:
      values = ['yes' if v is _MISSING else 'no' for v in values]
    elif any(name.startswith(f'{block}.') for block in blocks):
      values = [None if v is _MISSING else v for v in values]
      if len({repr(v) for v in values if v is not None}) < 2:
        continue
    if len(set(map(repr, values))) > 1:
      found.append((name, [None if v is _MISSING else v for v in values]))
  return found
