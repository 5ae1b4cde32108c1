"""Training images without augmentation, drawn at random from all files.

Every sample of the training data is read here: what calibrates ranges,
estimates batch norms and gradients, and what an export is verified on.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import os
import tempfile
from typing import Any

from absl import logging
from official.common import dataset_fn
from official.core import base_task

from modelgarden_opt.data import defects
from modelgarden_opt.data import inputs
from modelgarden_opt.data import labels
from modelgarden_opt.data import records
from modelgarden_opt.data import tfds_blocks

# What a task's configuration is here: all that is read of it are the splits.
TaskConfig = Any


@dataclasses.dataclass(frozen=True)
class Sample:
  """Records of the training data.

  Attributes:
    params: The input that reads them.
    found: The records themselves; none of TFDS, whose split names them.
    seed: Seed of the choice.
  """
  params: inputs.DataConfig
  found: Sequence[records.Record]
  seed: int

  def batches(self, task: base_task.Task) -> Iterator[tuple[Any, Any]]:
    """Yields the sample as the task's evaluation reads it: (images, labels).

    The Model Garden's own loader decodes and preprocesses it, from a file that
    holds the sample only and lasts as long as this is iterated.

    Args:
      task: The task whose training data it is of.
    """
    if not self.found:
      yield from task.build_inputs(self.params)
      return
    with tempfile.TemporaryDirectory() as directory:
      path = os.path.join(directory, 'sample.tfrecord')
      records.write(self.found, path)
      yield from task.build_inputs(_from_file(self.params, path))

  def listing(self) -> dict[str, Any]:
    """Returns which records these are, ready for JSON.

    Records are pairs of numbers: of the file in `files`, and in that file.
    """
    if not self.found:
      return {'seed': self.seed, 'tfds_name': self.params.tfds_name,
              'tfds_split': self.params.tfds_split}
    files = sorted({record.file for record in self.found})
    return {'seed': self.seed, 'files': files, 'records': [
        [files.index(record.file), record.number] for record in self.found]}


def sample(config: TaskConfig, count: int) -> Sample:
  """Returns a seeded random sample of the training data, in random order.

  The seed is that of the training data, 0 without one.

  Args:
    config: The configuration of a task.
    count: Number of records; all if there are fewer, and for TFDS a few more
      at most.

  Raises:
    ValueError, OSError, tf.errors.OpError: If the data cannot be read.
  """
  seed = config.train_data.seed or 0
  params = inputs.for_calibration(
      inputs.resolve(config.train_data), _evaluation(config))
  if params.tfds_name:
    params = params.replace(tfds_split=tfds_blocks.choose(
        params.tfds_name, params.tfds_data_dir, params.tfds_split, count,
        seed))
    return Sample(params, (), seed)
  read = dataset_fn.pick_dataset_fn(params.file_type)
  if params.max_bad_records:
    read = defects.without(read, defects.check(
        config.train_data, labels.rule_of(config), 'task.train_data'))
  found = records.sample(
      inputs.matching(params.input_path), read, count, seed)
  if not found:
    raise ValueError(f'task.train_data: no records in {params.input_path!r}')
  logging.info('Sampled %d un-augmented training records.', len(found))
  return Sample(params, found, seed)


def batch_size(config: TaskConfig) -> int:
  """Returns the size of the batches of a sample."""
  return inputs.for_calibration(config.train_data).global_batch_size


def _evaluation(config: TaskConfig) -> inputs.DataConfig | None:
  """Returns the input of evaluation if the configuration has one."""
  data = config.validation_data
  named = data is not None and (
      data.input_path or data.tfds_name or getattr(data, 'embedded_name', ''))
  return data if named else None


def _from_file(params: inputs.DataConfig, path: str) -> inputs.DataConfig:
  """Returns an input of a single TFRecord file."""
  changed = params.replace(file_type='tfrecord')
  changed.input_path = path
  for name, value in (('weights', None), ('embedded_name', '')):
    if hasattr(changed, name):
      setattr(changed, name, value)
  return changed
