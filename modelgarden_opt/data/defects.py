"""Records that training cannot use: found, named, counted, and left out.

Good data pay for one look at their labels and the first bytes of their images;
small sets are decoded as well. Where a record is wrong, or fails while a run
reads it, its file and number are looked for.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Any

from absl import logging
import numpy as np
from official.vision.dataloaders import input_reader_factory
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.data import inputs
from modelgarden_opt.data import labels
from modelgarden_opt.data import unusable
from modelgarden_opt.data import usable

COMPRESSION = {'tfrecord': '', 'tfrecord_compressed': 'GZIP'}
# Sets of up to so many bytes or records are read before the first step, and
# decoded up to the smaller size; of larger ones, a few records.
_MAX_BYTES = 2 * 2**30
_MAX_BYTES_OF_MASKS = 2**28
_MAX_BYTES_DECODED = 2**24
_MAX_RECORDS = 200_000
_FEW_RECORDS = 100
_BATCH = 128
# Records that are wrong and whose kinds are counted.
_MAX_COUNTED = 1_000
# More than there are values of a fingerprint: they are of 63 bits.
_FINGERPRINTS = 2**63 - 1
# Errors of ops that a record may be the reason of.
_OF_RECORDS = (tf.errors.InvalidArgumentError, tf.errors.DataLossError,
               tf.errors.NotFoundError, tf.errors.UnimplementedError,
               tf.errors.OutOfRangeError, UnicodeDecodeError)


@dataclasses.dataclass(frozen=True)
class Defect:
  """Something that cannot be used.

  Attributes:
    place: File and number of the record, from 0; or a file.
    kind: What it is, in words to count by.
    text: What is wrong.
    content: The record; None for a file that is damaged there, or empty.
  """
  place: str
  kind: str
  text: str
  content: bytes | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class Found:
  """What cannot be used of a split.

  Attributes:
    defects: The first ones.
    count: How many there are.
    total: Number of records.
  """
  defects: tuple[Defect, ...] = ()
  count: int = 0
  total: int = 0

  def describe(self) -> str:
    """Returns how many there are, by kind, with the first one of each."""
    kinds = collections.Counter(defect.kind for defect in self.defects)
    first: dict[str, Defect] = {}
    for defect in self.defects:
      first.setdefault(defect.kind, defect)
    of = '' if self.count == len(self.defects) else (
        f'; of the first {len(self.defects):,}')
    files = sum(defect.content is None for defect in self.defects)
    what = []
    if self.count > files:
      what.append(f'{self.count - files:,} of {self.total:,} records cannot be '
                  'used')
    if files:
      what.append(f'{errors.counted(files, "file")} cannot be read whole')
    return (f'{" and ".join(what)}{of}: '
            + '; '.join(kind + (f', {number:,} times, first' if number > 1
                                else '')
                        + f' in {first[kind].place}: {first[kind].text}'
                        for kind, number in kinds.most_common()))


@dataclasses.dataclass(frozen=True)
class _Files:
  """What is read of a split: paths, compression, and how many records."""
  paths: tuple[str, ...]
  compression: str
  max_records: int


# What was found, by what it depends on: the files' (name, size, time of the
# last change), what is read of a record, whether all were decoded, the limit.
_known: dict[tuple, Found] = {}


@tf.autograph.experimental.do_not_convert
def check(
    params: inputs.DataConfig,
    rule: labels.Rule | None,
    field: str,
    thorough: bool = False,
) -> Found:
  """Looks for records that cannot be used, and refuses too many of them.

  Args:
    params: Input of a split.
    rule: Which labels are allowed; None for any.
    field: Name of the split for messages.
    thorough: Whether every record is decoded; else as many as are quickly.

  Returns:
    What was found, at most `max_bad_records`.

  Raises:
    UsageError: If there are more, a file is missing, or no record is left.
  """
  if params.file_type not in COMPRESSION:
    return Found()
  try:
    params = inputs.resolve(params)
    paths = inputs.files(params)
  except errors.UsageError as e:
    raise errors.UsageError(
        f'{field}.{e} If the data of a run were moved, say so in its '
        'params.yaml.') from None
  if not paths:
    return Found()
  allowed = params.max_bad_records
  found = _find(params, paths, usable.reading(params, rule), field,
                thorough or allowed > 0)
  if found.count > allowed:
    raise errors.UsageError(
        f'{field}: {found.describe()} (max_bad_records: {allowed}; records '
        'count from 0; `modelgarden-opt data check` lists all of them)')
  if found.total <= sum(d.content is not None for d in found.defects):
    raise errors.UsageError(
        f'{field}.input_path: there is no record in {params.input_path!r} '
        'that can be used')
  return found


def _find(params, paths, read: usable.Reading, field, thorough) -> Found:
  """Returns what cannot be used, as far as files are read, see `check`."""
  limit = _MAX_BYTES_OF_MASKS if read.of_pixels else _MAX_BYTES
  versions, size, empty = _versions(paths, limit, field)
  key = (versions, read, thorough, params.max_bad_records)
  if key in _known:
    return _known[key]
  small = size <= limit
  everything = small or thorough
  if not everything:
    logging.info('%s is large: records are checked as they are read.', field)
  files = _Files(
      tuple(paths if everything else paths[:1]),
      COMPRESSION[params.file_type],
      -1 if thorough else _MAX_RECORDS if small else _FEW_RECORDS)
  decoding = thorough or size <= _MAX_BYTES_DECODED or not small
  fine, total = _all_usable(files, read, decoding)
  if fine and not empty and total:
    found = Found(total=total)
  else:
    found = _search(files, read, params.max_bad_records)
  if found.count and found.count <= params.max_bad_records:
    logging.warning('%s: %s; left out (max_bad_records: %d)', field,
                    found.describe(), params.max_bad_records)
  _known[key] = found
  return found


def _versions(
    paths: Iterable[str], limit: int, field: str) -> tuple[tuple, int, bool]:
  """Returns what changes with content, the size, and if a file is empty."""
  versions, total, empty = [], 0, False
  for path in paths:
    try:
      stat = tf.io.gfile.stat(path)
    except tf.errors.OpError:
      raise errors.UsageError(
          f'{field}.input_path: there is no file {path!r}') from None
    if tf.io.gfile.isdir(path):
      raise errors.UsageError(
          f'{field}.input_path: {path!r} is a directory; name its files, such '
          f'as {path.rstrip("/")}/*.tfrecord')
    total += stat.length
    empty |= not stat.length
    versions.append((path, stat.length, stat.mtime_nsec))
    if total > limit:
      break
  return tuple(versions), total, empty


def _all_usable(
    files: _Files, read: usable.Reading, decoding: bool) -> tuple[bool, int]:
  """Whether all records are fine, found out by ops alone, and how many."""
  records = tf.data.TFRecordDataset(
      list(files.paths), files.compression).take(files.max_records)
  if decoding:
    checked = records.map(
        usable.whole(read), num_parallel_calls=tf.data.AUTOTUNE).batch(
            _BATCH).map(lambda fine: (tf.reduce_all(fine), tf.size(fine)))
  else:
    checked = usable.quickly(read, records, _BATCH)
  try:
    fine, total = checked.reduce(
        (True, 0), lambda state, batch: (state[0] & batch[0],
                                         state[1] + batch[1]))
    return bool(fine), int(total)
  except usable.OP_ERRORS:  # Whatever it is, it is looked for.
    return False, 0


def _search(files: _Files, read: usable.Reading, allowed: int) -> Found:
  """Returns the records that cannot be used, file by file."""
  defects: list[Defect] = []
  count = total = 0
  most = max(allowed, _MAX_COUNTED)
  for path in files.paths:
    left = files.max_records if files.max_records < 0 else max(
        files.max_records - total, 0)
    records = tf.data.TFRecordDataset(path, files.compression)
    number, wrong = _wrong_in(records.ignore_errors().take(left), read)
    total += number
    damage = _damage(records.take(left))
    of_file = 'damaged file' if damage else '' if number or not left else (
        'empty file')
    count += len(wrong) + bool(of_file)
    defects += _named(path, records.ignore_errors(),
                      wrong[:max(0, most - len(defects))], read)
    if of_file:
      text = (f'damaged after {number:,} records: {damage}' if damage
              else 'holds no record')
      defects.append(Defect(
          f'{path}, record {number}' if damage else path, of_file, text))
  return Found(tuple(defects), count, total)


def _wrong_in(
    records: tf.data.Dataset, read: usable.Reading) -> tuple[int, list[int]]:
  """Returns the number of records, and the numbers of the unusable ones."""
  usable_of = usable.whole(read)
  fine = records.enumerate().map(
      lambda number, content: (number, usable_of(content)),
      num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
  ).ignore_errors().filter(lambda number, fine: fine).map(
      lambda number, fine: number).batch(_BATCH)
  numbers = np.concatenate([[], *fine.as_numpy_iterator()]).astype(np.int64)
  total = int(records.reduce(0, lambda count, _: count + 1))
  return total, sorted({*range(total)} - {*numbers.tolist()})


def _damage(records: tf.data.Dataset) -> str:
  """Returns what the file of records is damaged by, '' if by nothing."""
  try:
    records.reduce(0, lambda count, _: count + 1)
  except usable.OP_ERRORS as e:
    return errors.of_op(e)
  return ''


def _named(
    path: str, records: tf.data.Dataset, numbers: list[int],
    read: usable.Reading) -> Iterator[Defect]:
  """Yields what is wrong with the records of these numbers."""
  if not numbers:
    return
  wanted = np.zeros(numbers[-1] + 1, bool)
  wanted[numbers] = True
  is_wanted = tf.constant(wanted)
  chosen = records.take(len(wanted)).enumerate().filter(
      lambda number, _: is_wanted[number])
  for number, content in chosen.as_numpy_iterator():
    kind, text = next(iter(unusable.reasons(content, read)), (
        'unreadable record', 'the loader refuses it'))
    yield Defect(f'{path}, record {number}', kind, text, content)


def without(
    dataset_fn: Callable[..., tf.data.Dataset], found: Found
) -> Callable[..., tf.data.Dataset]:
  """Returns a function that reads files without what cannot be used.

  Args:
    dataset_fn: Returns the serialized records of files.
    found: What is left out.
  """
  if not found.count:
    return dataset_fn
  with tf.init_scope():
    bad = np.array(sorted({
        _fingerprint(defect.content).numpy() for defect in found.defects
        if defect.content is not None}), np.int64)
  return lambda files: dataset_fn(files).ignore_errors().filter(
      lambda content: tf.reduce_all(_fingerprint(content) != bad))


def _fingerprint(content: Any) -> tf.Tensor:
  return tf.strings.to_hash_bucket_fast(content, _FINGERPRINTS)


@contextlib.contextmanager
def left_out(found: Found) -> Iterator[None]:
  """Makes inputs that are built meanwhile leave out what cannot be used."""
  # The tasks make their reader by this function and offer no other way in.
  make_reader = input_reader_factory.input_reader_generator

  def make(params, *, dataset_fn, **kwargs):
    return make_reader(params, dataset_fn=without(dataset_fn, found), **kwargs)

  if found.count:
    input_reader_factory.input_reader_generator = make
  try:
    yield
  finally:
    input_reader_factory.input_reader_generator = make_reader


@contextlib.contextmanager
def named(config: Any) -> Iterator[None]:
  """Names the record at which reading the data of a task fails.

  Args:
    config: The configuration of the task.

  Raises:
    UsageError: If an op fails and a record cannot be used.
  """
  try:
    yield
  except _OF_RECORDS as e:
    if errors.marked_in(str(e)) is None:
      logging.info('Looking for the record that cannot be read.')
      rule = labels.rule_of(config)
      for split in labels.SPLITS:
        params = getattr(config, split, None)
        # A run is evaluated where its training data are not.
        if params is not None and (
            isinstance(e, tf.errors.NotFoundError) or _is_there(params)):
          check(params, rule, f'task.{split}', thorough=True)
    raise


def _is_there(params: inputs.DataConfig) -> bool:
  try:
    return all(map(tf.io.gfile.exists, inputs.files(params)))
  except errors.UsageError:
    return False
