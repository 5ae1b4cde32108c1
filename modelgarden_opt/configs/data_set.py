"""`task.data`: one field that stands for the input of every split.

It names a directory that `modelgarden-opt data import` wrote, or an embedded
data set. What follows from it is written into the Model Garden's own fields,
so that nothing that reads a configuration has to know it.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import os
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs.rules import rule
from modelgarden_opt.configs.schema import marks
from modelgarden_opt.configs.schema import stored

DESCRIPTOR = 'dataset.json'
# What a value is said to come from that none but `task.data` gives.
STANDS_FOR = 'task.data'
# Fields by which a split names its source.
_SOURCES = ('input_path', 'tfds_name', 'embedded_name')
# Input sizes that follow from small images: multiples of the networks' stride,
# and not so small that their last maps are of one pixel.
_STRIDE, _SMALLEST = 32, 64


@dataclasses.dataclass(frozen=True)
class DataSet:
  """What is known of a data set without reading its records.

  Attributes:
    name: Its directory or embedded name.
    task: `image_classification` or `semantic_segmentation`.
    classes: Names of the classes.
    num_examples: Number of examples by split.
    largest_side: Of all images, in pixels.
    formats: Formats of its images: `jpeg`, `png`.
    embedded: Whether it is embedded.
  """
  name: str
  task: str
  classes: tuple[str, ...]
  num_examples: Mapping[str, int]
  largest_side: int
  formats: tuple[str, ...]
  embedded: bool = False

  def split(self, split: str) -> dict[str, Any]:
    """Returns the fields of an input that read one split."""
    if self.embedded:
      return {'embedded_name': self.name, 'embedded_split': split,
              'input_path': '', 'tfds_name': ''}
    fields = {'input_path': os.path.join(self.name, f'{split}-*.tfrecord'),
              'tfds_name': '', 'embedded_name': '', 'embedded_split': '',
              'file_type': 'tfrecord'}
    if self.task == 'image_classification':
      fields['decode_jpeg_only'] = self.formats == ('jpeg',)
    return fields


def read(name: str) -> DataSet:
  """Returns what a directory or an embedded name stands for.

  Args:
    name: Value of `task.data`.

  Raises:
    UsageError: If it is neither, or the directory's descriptor is damaged.
  """
  known = catalog.DATA_SETS.get(name)
  if known is not None:
    return DataSet(name, known.task, known.classes, dict(zip(
        catalog.SPLITS, known.num_examples)), known.side, ('png',), True)
  directory = name
  if '://' not in name:
    directory = os.path.abspath(os.path.expanduser(name))
  path = os.path.join(directory, DESCRIPTOR)
  if not files.exists(path):
    raise errors.UsageError(
        f'task.data: {marks.shown(name)} is neither a directory that '
        f'`modelgarden-opt data import` wrote (it has no {DESCRIPTOR}) nor an '
        'embedded data set'
        f'{errors.nearest(name, catalog.DATA_SETS)}')
  try:
    values = json.loads(files.read_bytes(path))
    images = values['images']
    return DataSet(
        directory, values['task'], tuple(values['classes']),
        values['num_examples'], max(images['height'][1], images['width'][1]),
        tuple(images['formats']))
  except (OSError, ValueError, KeyError, TypeError, IndexError) as e:
    raise errors.UsageError(
        f'task.data: {path!r} is damaged ({type(e).__name__}: {e}); import the '
        'data again') from None


def expand(
    experiment: stored.Experiment, sources: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
  """Returns what has to be overridden before every source, and after the last.

  What a source says wins over what its `task.data` stands for, and so does
  what later ones say. Sizes, which fit any data, win in earlier ones too.

  Args:
    experiment: The experiment, without overrides.
    sources: The overrides in the order of their application.

  Raises:
    UsageError: If a data set is not there or is of another task.
  """
  expanded = [{} for _ in range(len(sources) + 1)]
  named = [i for i, values in enumerate(sources) if _get(values, 'task.data')]
  if not named:
    return expanded
  index = named[-1]
  found = read(_get(sources[index], 'task.data'))
  task_of_experiment = rule.View(experiment.values).task
  if experiment.task != found.task:
    raise errors.UsageError(
        f'task.data: {found.name!r} is of {found.task}, and '
        f'{task_of_experiment.name!r} is an experiment of another task')
  before, after = sources[:index], sources[index:]
  task: dict[str, Any] = {'model': {'num_classes': len(found.classes)}}
  if not _names_a_source(after, 'train_data'):
    task['class_names'] = list(found.classes)
  for split in ('train', 'validation'):
    named_otherwise = _names_a_source(after, f'{split}_data')
    task[f'{split}_data'] = (dict.fromkeys(_SOURCES, '') if named_otherwise
                             else found.split(split))
  task['validation_data']['drop_remainder'] = False
  expanded[index] = {'task': task, 'trainer': {'validation_steps': -1}}
  expanded[-1] = {'task': {
      **_sizes(task_of_experiment, found, sources), 'data': '',
      'test_data': _test_data(found, before, after)}}
  return expanded


def _get(values: Any, path: str) -> Any:
  """Returns what overrides say about a field, None if nothing."""
  for name in path.split('.'):
    values = values.get(name) if isinstance(values, Mapping) else None
  return values


def _names_a_source(sources: Sequence[Mapping[str, Any]], split: str) -> bool:
  return any(_get(values, f'task.{split}.{field}')
             for values in sources for field in _SOURCES)


def _test_data(found: DataSet, before, after) -> dict[str, Any] | None:
  """Returns what the input of tests has other than that of validation."""
  named = _names_a_source(after, 'test_data')
  if 'test' not in found.num_examples and not named:
    return None
  fields = found.split('test') if 'test' in found.num_examples else {}
  earlier, later = (
      {key: value for values in some
       for key, value in (_get(values, 'task.test_data') or {}).items()}
      for some in (before, after))
  earlier = {k: v for k, v in earlier.items() if k not in fields}
  if named:
    fields = dict.fromkeys(_SOURCES, '')
  return {'is_training': False, 'drop_remainder': False, **earlier, **fields,
          **later}


def _sizes(task: rule.View, found: DataSet, sources) -> dict[str, Any]:
  """Returns sizes for small images, where no source gives any."""
  def given(field):
    return any(_get(values, f'task.{field}') for values in sources)

  side = max(_SMALLEST, -(-found.largest_side // _STRIDE) * _STRIDE)
  fields: dict[str, Any] = {}
  present = task.model.input_size
  if present and None not in present and side < min(present[:2]) and (
      not given('model.input_size')):
    fields['model'] = {'input_size': [side, side, present[2]]}
  if found.task == 'semantic_segmentation':
    for split in ('train_data', 'validation_data'):
      present = getattr(task, split).output_size
      if present and side < min(present) and not given(f'{split}.output_size'):
        fields[split] = {'output_size': [side, side]}
    if not given('validation_data.groundtruth_padded_size'):
      # Masks of any size are compared at the size of the network's output.
      fields.setdefault('validation_data', {}).update(
          resize_eval_groundtruth=True, groundtruth_padded_size=[])
  return fields
