"""Reads every record of a configuration's data, and says what is wrong.

What training finds out step by step, and what it never finds out: images that
are in two splits, or classes that have no image.
"""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
from typing import Any

import tensorflow as tf
import tqdm

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.data import defects
from modelgarden_opt.data import examples
from modelgarden_opt.data import inputs
from modelgarden_opt.data import labels
from modelgarden_opt.data import unusable
from modelgarden_opt.data import usable
from modelgarden_opt.data.importing import descriptor
from modelgarden_opt.data.importing import images
from modelgarden_opt.data.importing import masks

_PORTION = 256


@dataclasses.dataclass(frozen=True)
class Finding:
  """One thing about one record, or about a split.

  Attributes:
    field: The split, such as `task.train_data`.
    kind: What it is, in words to count by.
    place: File and number of the record, from 0; '' for the whole split.
    text: What it is here.
    wrong: Whether it is wrong, or only worth knowing.
  """
  field: str
  kind: str
  place: str
  text: str
  wrong: bool = True


@dataclasses.dataclass
class Split:
  """What was read of one split.

  Attributes:
    field: The split, such as `task.train_data`.
    num_records: Number of records.
    classes: Number of images by class; of segmentation, of those with it.
    formats: Number of images by format.
  """
  field: str
  num_records: int = 0
  classes: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)
  formats: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)


@dataclasses.dataclass(frozen=True)
class Report:
  """What is known of a configuration's data.

  Attributes:
    splits: The splits that it names.
    findings: What is wrong, and what is worth knowing.
  """
  splits: list[Split]
  findings: list[Finding]

  @property
  def wrong(self) -> bool:
    """Whether anything is wrong."""
    return any(finding.wrong for finding in self.findings)


@dataclasses.dataclass(frozen=True)
class _Record:
  """A record and where it is; without content if its file ends or is damaged.
  """
  place: str
  content: bytes | None
  kind: str = ''
  damage: str = ''


@dataclasses.dataclass(frozen=True)
class _Examined:
  """What is in a record; `whole` unless its file is damaged there."""
  place: str
  findings: tuple[tuple[str, str, bool], ...] = ()
  digest: bytes = b''
  format: str = ''
  classes: tuple[int, ...] = ()
  whole: bool = True


def check(config: Any, max_records: int | None = None) -> Report:
  """Reads the data that a task's configuration names.

  Args:
    config: The configuration of a task.
    max_records: Records of every split that are read; None for all.
  """
  rule = labels.rule_of(config)
  splits, findings = [], []
  seen: dict[bytes, tuple[str, str, tuple[int, ...]]] = {}
  for name in labels.SPLITS:
    params = getattr(config, name, None)
    if params is None:
      continue
    split = Split(f'task.{name}')
    splits.append(split)
    found, bad = [], set()
    try:
      params = inputs.resolve(params)
      records = itertools.islice(_records(params), max_records)
      for examined in _examined(
          records, usable.reading(params, rule), split.field):
        found += _add(examined, split, seen, rule)
        if any(wrong for *_, wrong in examined.findings):
          bad.add(examined.place)
    except errors.UsageError as e:
      findings.append(Finding(split.field, 'unreadable', '', str(e)))
      continue
    if len(bad) <= params.max_bad_records:
      found = [_left_out(f, params.max_bad_records) if f.place in bad else f
               for f in found]
    findings += [*found, *_of_split(split, rule)]
  return Report(splits, findings)


def _left_out(finding: Finding, allowed: int) -> Finding:
  """Returns what was found in a record that training leaves out."""
  return dataclasses.replace(
      finding, wrong=False,
      text=f'{finding.text}; left out (max_bad_records: {allowed})')


def check_files(directory: str) -> list[Finding]:
  """Compares the files of an imported data set with its descriptor.

  Args:
    directory: The data set.
  """
  described = files.read_json_if_any(os.path.join(directory, descriptor.NAME))
  found = []
  for name, entry in described['files'].items():
    path = os.path.join(directory, name)
    if not files.exists(path):
      found.append(Finding('files', 'missing file', path, 'it is not there'))
    elif hashlib.sha256(
        files.read_bytes(path)).hexdigest() != entry['sha256']:
      found.append(Finding(
          'files', 'changed file', path, 'its digest is another one than '
          f'{descriptor.NAME} says'))
  return found


def _records(params: inputs.DataConfig) -> Iterator[_Record]:
  """Yields the records of a split, in the order of its files.

  Raises:
    UsageError: If they cannot be found.
  """
  if params.tfds_name and not getattr(params, 'embedded_name', ''):
    yield from _tfds_records(params)
    return
  paths = inputs.files(params)
  if not paths:
    raise errors.UsageError('input_path: names no files that can be read')
  compression = defects.COMPRESSION.get(params.file_type)
  if compression is None:
    raise errors.UsageError(
        f'file_type: {params.file_type!r} cannot be checked; one of: '
        f'{", ".join(defects.COMPRESSION)}')
  for path in paths:
    yield from _numbered(
        path, tf.data.TFRecordDataset(path, compression).as_numpy_iterator())


def _numbered(source: str, contents: Iterable[bytes]) -> Iterator[_Record]:
  """Yields records with their numbers, and where reading them fails."""
  number = -1
  try:
    for number, content in enumerate(contents):
      yield _Record(f'{source}, record {number}', content)
  except tf.errors.OpError as e:
    yield _Record(f'{source}, record {number + 1}', None, 'damaged file',
                  f'damaged from here on: {errors.of_op(e)}')
    return
  if number < 0:
    yield _Record(source, None, 'empty file', 'holds no record')


def _tfds_records(params: inputs.DataConfig) -> Iterator[_Record]:
  """Yields records of TFDS as the Model Garden's decoder makes them."""
  # pylint: disable=g-import-not-at-top
  from official.vision.dataloaders import tfds_factory
  import tensorflow_datasets as tfds
  make = (tfds_factory.get_classification_decoder
          if hasattr(params, 'label_field_key')
          else tfds_factory.get_segmentation_decoder)
  try:
    decoder = make(params.tfds_name)
    data = tfds.load(params.tfds_name, split=params.tfds_split, download=False,
                     data_dir=params.tfds_data_dir or None)
  except Exception as e:  # It is looked for in many ways.
    raise errors.UsageError(
        f'tfds_name: {params.tfds_name!r} cannot be read: '
        f'{str(e).strip().splitlines()[0]}') from None
  yield from _numbered(f'{params.tfds_name} {params.tfds_split}', map(
      examples.serialize, data.map(decoder.decode).as_numpy_iterator()))


def _examined(
    records: Iterable[_Record], read: usable.Reading, field: str
) -> Iterator[_Examined]:
  """Yields what is in records; images are decoded by several threads."""
  records = iter(records)
  with concurrent.futures.ThreadPoolExecutor(
      os.cpu_count()) as pool, tqdm.tqdm(
          unit='record', desc=field, disable=None) as bar:
    while portion := list(itertools.islice(records, _PORTION)):
      for examined in pool.map(lambda r: _examine(r, read), portion):
        bar.update()
        yield examined


def _examine(record: _Record, read: usable.Reading) -> _Examined:
  """Says what is wrong with a record, and what is worth knowing of its image.
  """
  if record.content is None:
    return _Examined(record.place, ((record.kind, record.damage, True),),
                     whole=False)
  found = [(kind, text, True)
           for kind, text in unusable.reasons(record.content, read)]
  try:
    features = tf.train.Example.FromString(record.content).features.feature
    content = b''.join(features[read.image].bytes_list.value[:1]
                       if read.image in features else ())
    picture = images.of_file(content)
  except Exception:  # Whatever it is, it has been found.
    return _Examined(record.place, tuple(found))
  found += [(kind, text, False) for kind, text in picture.remarks]
  return _Examined(
      record.place, tuple(found), hashlib.sha256(content).digest()[:8],
      'png' if content.startswith(b'\x89PNG') else picture.format,
      _classes(features, read.rule))


def _classes(features, rule) -> tuple[int, ...]:
  """Returns the classes of a record: its labels, or those of its pixels."""
  if rule is None or rule.key not in features:
    return ()
  if not rule.of_pixels:
    return tuple(features[rule.key].int64_list.value)
  try:
    mask = images.decode(features[rule.key].bytes_list.value[0])
  except (images.Unusable, IndexError):
    return ()
  return tuple(value for value, count in enumerate(
      mask.histogram()[:256]) if count and value != masks.IGNORED)


def _add(examined: _Examined, split: Split, seen, rule) -> Iterator[Finding]:
  """Counts a record; yields what was found in it."""
  split.num_records += examined.whole
  split.classes.update(examined.classes)
  if examined.format:
    split.formats[examined.format] += 1
  for kind, text, wrong in examined.findings:
    yield Finding(split.field, kind, examined.place, text, wrong)
  if not examined.digest:
    return
  field, place, classes = seen.setdefault(
      examined.digest, (split.field, examined.place, examined.classes))
  if classes != examined.classes and not (rule and rule.of_pixels):
    yield Finding(split.field, 'image of two classes', examined.place,
                  f'its label is {_joined(examined.classes)}, and '
                  f'{_joined(classes)} in {field}: {place}')
  if field != split.field:
    yield Finding(split.field, 'image of another split', examined.place,
                  f'it is also in {field}: {place}')
  elif place != examined.place:
    yield Finding(split.field, 'image that is there twice', examined.place,
                  f'it is also {place}', wrong=False)


def _joined(classes: tuple[int, ...]) -> str:
  return ', '.join(map(str, classes)) or 'missing'


def _of_split(split: Split, rule) -> Iterator[Finding]:
  """Yields what is wrong with a split as a whole."""
  if not split.num_records:
    yield Finding(split.field, 'no records', '', 'there is no whole record')
  elif rule is not None:
    empty = [n for n in range(rule.num_classes) if not split.classes[n]]
    if empty:
      yield Finding(
          split.field, 'class without images', '', f'{len(empty)} of '
          f'{rule.num_classes} classes, such as {empty[0]}', wrong=False)
