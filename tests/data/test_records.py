"""Samples of records are random, seeded and bounded, whatever their order."""

import collections
import os

import pytest
import tensorflow as tf

from modelgarden_opt.data import records


@pytest.fixture
def sorted_files(tmp_path):
  """Five files of 40 records of 100 bytes, all of one class a file."""
  files = []
  for label in range(5):
    files.append(str(tmp_path / f'{label}.tfrecord'))
    with tf.io.TFRecordWriter(files[-1]) as writer:
      for number in range(40):
        writer.write(f'{label}:{number:02d}'.encode().ljust(100))
  return files


def _names(found):
  return [(int(r.content[:1]), int(r.content[2:4])) for r in found]


def test_every_class_of_sorted_files_is_drawn(sorted_files):
  found = records.sample(sorted_files, tf.data.TFRecordDataset, 50, 0)
  classes = collections.Counter(label for label, _ in _names(found))
  assert len(found) == 50 and len(set(_names(found))) == 50
  assert set(classes) == set(range(5)) and min(classes.values()) >= 4
  # The first few are of many classes, too, and not the first of a file.
  assert len({label for label, _ in _names(found)[:12]}) >= 4
  assert max(number for _, number in _names(found)) >= 35


def test_records_are_those_at_the_places_that_are_listed(sorted_files):
  for record in records.sample(sorted_files, tf.data.TFRecordDataset, 9, 0):
    read = list(tf.data.TFRecordDataset(record.file).as_numpy_iterator())
    assert read[record.number] == record.content


def test_the_seed_decides(sorted_files):
  draw = lambda files, seed: _names(records.sample(  # noqa: E731
      files, tf.data.TFRecordDataset, 9, seed))
  assert draw(sorted_files, 1) == draw(sorted_files[::-1], 1)
  assert draw(sorted_files, 1) != draw(sorted_files, 2)


def test_fewer_records_than_asked_for_are_all_drawn(sorted_files):
  found = records.sample(sorted_files[:1], tf.data.TFRecordDataset, 99, 0)
  assert sorted(_names(found)) == [(0, number) for number in range(40)]


def test_of_too_large_files_some_and_of_each_a_part_is_read(sorted_files):
  read = []

  def reader(path):
    read.append(os.path.basename(path))
    return tf.data.TFRecordDataset(path)

  found = records.sample(sorted_files, reader, 3, 0, max_bytes=9_600)
  # Three of five files; 3,200 bytes of each, one batch of 32 records.
  assert len(read) == 3 and len(found) == 3
  assert all(number < 32 for _, number in _names(found))
  found = records.sample(sorted_files, reader, 1000, 0, max_bytes=9_600)
  assert len(found) == 5 * 32


def test_written_records_are_read_back_in_order(sorted_files, tmp_path):
  found = records.sample(sorted_files, tf.data.TFRecordDataset, 20, 0)
  path = str(tmp_path / 'new' / 'sample.tfrecord')
  records.write(found, path)
  assert list(tf.data.TFRecordDataset(path).as_numpy_iterator()) == [
      record.content for record in found]
