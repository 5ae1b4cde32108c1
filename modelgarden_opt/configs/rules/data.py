"""Rules of `task.train_data`, `task.validation_data` and `task.test_data`."""

from collections.abc import Iterator
import functools
import os
import re

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs.rules import rule

SPLITS = ('train_data', 'validation_data', 'test_data')
_DESCRIPTOR = 'dataset.json'
_FILES = '-*.tfrecord'
_ADDRESS = re.compile(r'(\w+://)?[^/:\s]+:\d{1,5}|(\w+://)?\[[0-9a-f:]+\]:\d+')


def num_examples(data: rule.View) -> int | None:
  """Returns how many examples a split has, None where nobody knows."""
  if data.embedded_name:
    known = catalog.DATA_SETS.get(data.embedded_name)
    counts = known and dict(zip(catalog.SPLITS, known.num_examples))
    return counts and counts.get(data.embedded_split)
  path = data.input_path
  if data.tfds_name or not isinstance(path, str) or (
      not path.endswith(_FILES)):
    return None
  directory, name = os.path.split(path)
  return _described(directory).get(name.removesuffix(_FILES))


@functools.lru_cache(maxsize=64)
def _described(directory: str) -> dict[str, int]:
  """Returns the number of examples by split, empty where nothing says so."""
  try:
    path = os.path.join(directory, _DESCRIPTOR)
    return dict(files.read_json(path)['num_examples'])
  except (errors.UsageError, KeyError, TypeError):
    return {}


def _of_sources(split: str) -> Iterator[rule.Rule]:
  """Yields the rules of where a split comes from."""
  path = f'task.{split}'

  @rule.reads(f'{path}.tfds_name', f'{path}.input_path')
  def one_source(c: rule.View) -> Iterator[rule.Found]:
    data = getattr(c.task, split)
    if data.tfds_name and data.input_path:
      yield (f'cannot be combined with input_path {data.input_path!r}; set '
             "input_path: ''")
    if data.tfds_name and not data.tfds_split:
      yield f'{path}.tfds_split', (
          f'must be set with tfds_name {data.tfds_name!r}')

  @rule.reads(f'{path}.input_path', f'{path}.embedded_name')
  def paths_that_are_read(c: rule.View) -> Iterator[rule.Found]:
    data = getattr(c.task, split)
    if data.embedded_name and data.input_path and data.base is not None and (
        data.input_path != data.base.input_path):
      yield (f'{data.input_path!r} is not read with embedded_name '
             f"{data.embedded_name!r}; set embedded_name: ''")

  @rule.reads(f'{path}.embedded_split', f'{path}.embedded_name')
  def a_split(c: rule.View) -> Iterator[rule.Found]:
    data = getattr(c.task, split)
    if data.embedded_name and not data.embedded_split:
      yield (f'must be one of {", ".join(catalog.SPLITS)} with embedded_name '
             f"{data.embedded_name!r}, received ''")

  @rule.reads(f'{path}.max_bad_records', f'{path}.tfds_name')
  def records_of_files(c: rule.View) -> Iterator[rule.Found]:
    data = getattr(c.task, split)
    if data.max_bad_records and data.tfds_name:
      yield (f'{data.max_bad_records} records of files may be bad, and '
             f'tfds_name {data.tfds_name!r} has none; set max_bad_records: 0')

  @rule.reads(f'{path}.tf_data_service', f'{path}.enable_tf_data_service',
              f'{path}.tf_data_service_address', f'{path}.deterministic')
  def a_service(c: rule.View) -> Iterator[rule.Found]:
    yield from _of_service(getattr(c.task, split), path,
                           split == 'train_data')

  yield from (one_source, paths_that_are_read, a_split, records_of_files,
              a_service)


def _of_values(split: str) -> Iterator[rule.Rule]:
  """Yields the rules of how a split is read and augmented."""
  path = f'task.{split}'
  trains = split == 'train_data'

  @rule.reads(f'{path}.is_training')
  def used_as_it_is_named(c: rule.View) -> Iterator[rule.Found]:
    given = getattr(c.task, split).is_training
    if given is not None and given != trains:
      yield (f'must be {str(trains).lower()}: training repeats and augments '
             'its images, and evaluation takes each of them once')

  @rule.reads(f'{path}.global_batch_size', f'{path}.embedded_name',
              f'{path}.input_path')
  def a_batch_is_full(c: rule.View) -> Iterator[rule.Found]:
    data = getattr(c.task, split)
    size, there = data.global_batch_size, num_examples(data)
    if there is not None and size > there and data.drop_remainder and (
        data.base is None or size != data.base.global_batch_size):
      yield (f'{size} is more than the {there:,} images of the split, so there '
             f'is no full batch; use {there} at most'
             + ('' if trains else ', or drop_remainder: false'))

  @rule.reads(f'{path}.crop_area_range')
  def a_range(c: rule.View) -> Iterator[rule.Found]:
    given = getattr(c.task, split).crop_area_range
    if given and given[0] > given[1]:
      yield f'must be [lowest, highest], received {given}'

  @rule.reads(f'{path}.image_feature.num_channels')
  def of_every_channel(c: rule.View) -> Iterator[rule.Found]:
    feature = getattr(c.task, split).image_feature
    for name in ('mean', 'stddev'):
      given = getattr(feature, name)
      if given is not None and len(given) != feature.num_channels:
        yield f'{path}.image_feature.{name}', (
            f'must have one number for each of {feature.num_channels} '
            f'channels, received {given}')

  yield from (used_as_it_is_named, a_batch_is_full, a_range, of_every_channel)
  yield rule.ordered(f'{path}.aug_scale_min', f'{path}.aug_scale_max')
  yield rule.ordered(f'{path}.random_erasing.min_area',
                     f'{path}.random_erasing.max_area')


def _of_service(
    data: rule.View, path: str, trains: bool) -> Iterator[rule.Found]:
  """Yields what is wrong with the tf.data service of a split."""
  official = data.enable_tf_data_service
  field, address = f'{path}.tf_data_service', data.tf_data_service
  if official and not address:
    field, address = (
        f'{path}.tf_data_service_address', data.tf_data_service_address)
    if not address:
      yield field, 'must be set with enable_tf_data_service: true'
  if not address:
    return
  if not trains:
    yield field, ('must be empty: evaluation reads every image once, and every '
                  'worker of a service reads all of them')
  elif data.deterministic:
    yield f'{path}.deterministic', (
        f'cannot be combined with the tf.data service {address!r}, whose '
        'workers deliver in any order; use null')
  if not _ADDRESS.fullmatch(address):
    yield field, f'must be host:port, received {address!r}'


RULES = tuple(found for split in SPLITS
              for found in (*_of_sources(split), *_of_values(split)))
