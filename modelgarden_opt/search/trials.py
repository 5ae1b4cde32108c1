"""Trials: candidates that are made, exported, and judged on their files.

Each one is a pipeline in a directory of its own, named by the hash of its
configuration. What is complete there is not done again, and a trial that was
killed goes on.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import gc
import hashlib
import json
import os
import time
from typing import Any

import numpy as np
import tf_keras
import yaml

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.evaluation import paired
from modelgarden_opt.pipeline import checking
from modelgarden_opt.pipeline import commands
from modelgarden_opt.pipeline import executor
from modelgarden_opt.pipeline import identity
from modelgarden_opt.pipeline import stages
from modelgarden_opt.search import space
from modelgarden_opt.search import writing

DONE, FAILED = 'done', 'failed'
SPLIT = 'validation'
_RECORD, _PIPELINE, _LOG = 'trial.json', 'pipeline.yaml', 'log.txt'
# Fields of the JSON of `export` that a record has.
_EXPORTED = ('format', 'size_bytes', 'gzip_bytes', 'sparsity',
             'num_delegate_partitions', 'agreement')

Record = dict[str, Any]
# Runs a command; raises what goes wrong with it.
Execute = Callable[[Sequence[str]], int]
# Returns further fields of a file, given that of the float model: latency, cost
# on a device.
Measure = Callable[[str, str], Mapping[str, Any]]


class Trials:
  """The trials of one search.

  Attributes:
    kept: Records of all trials that this search has asked for, in order.
    seconds: Time that they took, whenever they were made.
  """

  def __init__(
      self,
      output_dir: str,
      writer: writing.Writer,
      settings: writing.Settings,
      execute: Execute,
      measure: Measure,
      imports: Sequence[str] = (),
  ):
    """Initializes the trials.

    Args:
      output_dir: Directory of the search.
      writer: Writes candidates as pipelines.
      settings: How they are made.
      execute: Runs a command of a pipeline.
      measure: Measures what evaluation does not.
      imports: Modules that the model needs, see `--import`.
    """
    self._directory = os.path.join(output_dir, 'trials')
    self._writer, self._execute, self._measure = writer, execute, measure
    self._imports = imports
    best = commands.best_of(settings.model_dir)
    self._source = identity.of([best])[best]
    self.kept: list[Record] = []
    self.seconds = 0.0
    self._candidates: dict[str, space.Candidate] = {}

  @property
  def reference(self) -> Record:
    """The record of the float file, the first one."""
    return self.kept[0]

  def run_float(self) -> Record:
    """Exports and evaluates the float model, with which all are compared.

    Raises:
      UsageError, Failure: If that cannot be done.
    """
    return self._run('float32', self._writer.of_float(SPLIT),
                     writing.FLOAT, 'float32', {'kind': 'float'})

  def run(self, candidate: space.Candidate) -> Record:
    """Makes and judges a candidate, or returns what is known of it.

    Args:
      candidate: The candidate.

    Returns:
      Its record; of one that failed with `status` and `message`. One that was
      tried before, by whatever name, has the record of then.
    """
    self._candidates[candidate.name] = candidate
    return self._run(
        candidate.name, self._writer.of(candidate, SPLIT), writing.TRIAL,
        'int8', {
            'kind': 'uniform' if candidate.uniform else 'searched',
            'layers': candidate.counted(),
            'granularity': candidate.family.granularity,
            'keep_ratio': candidate.family.keep,
            'train_steps': self._writer.steps(candidate)})

  def whole_pipeline_of(
      self, record: Mapping[str, Any], split: str) -> dict[str, Any]:
    """Returns the pipeline of a trial with everything that shows its worth.

    Args:
      record: Its record.
      split: Images to judge it on.
    """
    return self._writer.of(
        self._candidates[record['name']], split, whole=True)

  def pipeline_of(self, record: Mapping[str, Any]) -> str:
    """Returns the path of the YAML that a trial was made with."""
    return os.path.join(self._directory, record['id'], _PIPELINE)

  def file_of(self, record: Mapping[str, Any]) -> str:
    """Returns the path of the file of a trial, wherever the search is now."""
    return os.path.join(self._directory, record['id'], 'files',
                        os.path.basename(record['model']))

  def _run(
      self, name: str, values: Mapping[str, Any], stage: str, form: str,
      facts: Mapping[str, Any],
  ) -> Record:
    number = hashlib.sha256(json.dumps(
        [values, self._source], sort_keys=True).encode()).hexdigest()[:12]
    for record in self.kept:
      if record['id'] == number:
        return record
    directory = os.path.join(self._directory, number)
    path = os.path.join(directory, _RECORD)
    record = files.read_json_if_any(path)
    if record is None:
      begun = time.monotonic()
      record = {'name': name, 'id': number, **facts,
                **self._judged(directory, values, stage, form)}
      record['seconds'] = round(time.monotonic() - begun, 1)
      if record['status'] == FAILED and record['kind'] == 'float':
        raise errors.Failure(f'the float run: {record["message"]}')
      files.write_json(path, record)
    record = {**record, 'name': name}
    self.seconds += record['seconds']
    self.kept.append(record)
    return record

  def _judged(
      self, directory: str, values: Mapping[str, Any], stage: str, form: str
  ) -> Record:
    """Makes a trial in its directory; says what was found or went wrong."""
    files.write_atomically(
        os.path.join(directory, _PIPELINE),
        yaml.safe_dump(dict(values), sort_keys=False))
    try:
      with open(os.path.join(directory, _LOG), 'a', encoding='utf-8') as log:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
          pipeline = stages.parse(values)
          checking.resolve(pipeline, directory, self._imports)
          executor.run(
              commands.steps(pipeline, directory, 'search'), directory,
              self._execute, [f'--import={name}' for name in self._imports])
      return {'status': DONE, **self._found(directory, stage, form)}
    except OSError:  # Of the disk, not of the candidate.
      raise
    except Exception as e:  # pylint: disable=broad-exception-caught
      known = isinstance(e, (errors.UsageError, errors.Failure))
      text = errors.without_calls(str(e)) if known else errors.of_user_code(e)
      return {'status': FAILED, 'message': text}
    finally:
      tf_keras.backend.clear_session()
      gc.collect()

  def _found(self, directory: str, stage: str, form: str) -> Record:
    """Returns what was found in and by the file of a trial."""

    def read(name):
      return files.read_json(os.path.join(directory, 'files', f'{name}.json'))

    exported = read(f'{stage}_{form}')
    evaluated = read(f'{stage}_evaluation')['results'][-1]
    path = exported['model']
    floats = self.file_of(self.reference) if self.kept else path
    return {
        'model': path, **{k: exported[k] for k in _EXPORTED if k in exported},
        **evaluated['metrics'], 'num_examples': evaluated['num_examples'],
        'data': evaluated['data'], **self._difference(directory),
        **self._measure(path, floats)}

  def _difference(self, directory: str) -> Record:
    """Returns the paired difference from the float file, with its interval."""
    if not self.kept:
      return {}
    floats = _right(os.path.dirname(self.pipeline_of(self.reference)))
    ours = _right(directory)
    if ours is None or floats is None:
      return {}
    return {'difference': paired.difference(ours, floats).record()}


def _right(directory: str) -> np.ndarray | None:
  """Returns where the file of a trial is right, [n]; None of segmentation."""
  for stage in (writing.TRIAL, writing.FLOAT):
    path = os.path.join(directory, 'files', f'{stage}_predictions.npz')
    if os.path.exists(path):
      with np.load(path) as found:
        return found['classes'][-1] == found['labels']
  return None
