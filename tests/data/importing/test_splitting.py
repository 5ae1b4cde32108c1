"""Splits are stratified, disjoint and the same every time."""

import collections

import pytest

from modelgarden_opt import errors
from modelgarden_opt.data.importing import source as source_lib
from modelgarden_opt.data.importing import splitting


def _source(*sizes, splits=('',)):
  items = [source_lib.Item(f'{split}{label}-{i}', 'x', label, split)
           for split in splits for label, size in enumerate(sizes)
           for i in range(size)]
  return source_lib.Source(
      source_lib.CLASSIFICATION, tuple('abcdef'[:len(sizes)]), items, None)


def _split(source, shares='80,10,10', seed=0):
  return splitting.split(source, splitting.parse_shares(shares), seed)


def _counts(items):
  return dict(collections.Counter(item.label for item in items))


def test_every_class_has_its_share_of_every_split():
  found = _split(_source(100, 20, 3))
  assert {split: _counts(items) for split, items in found.items()} == {
      'train': {0: 80, 1: 16, 2: 1}, 'validation': {0: 10, 1: 2, 2: 1},
      'test': {0: 10, 1: 2, 2: 1}}
  names = [item.name for items in found.values() for item in items]
  assert len(set(names)) == len(names) == 123


def test_a_seed_decides_and_classes_are_mixed():
  source = _source(50, 50)
  first, again, other = _split(source), _split(source), _split(source, seed=1)
  assert first == again != other
  labels = [item.label for item in first['train']]
  assert labels != sorted(labels)


def test_given_splits_are_kept_and_missing_ones_taken_from_training():
  source = _source(20, 20, splits=('train', 'test'))
  found = _split(source, '75,25,0')
  assert {item.split for item in found['test']} == {'test'}
  assert _counts(found['test']) == {0: 20, 1: 20}
  assert _counts(found['validation']) == {0: 5, 1: 5}
  assert {item.split for item in found['validation']} == {'train'}
  whole = _split(_source(9, 9, splits=splitting.SPLITS))
  assert {len(items) for items in whole.values()} == {18}


def test_without_a_share_there_are_no_tests():
  assert [*_split(_source(10, 10), '9,1,0')] == ['train', 'validation']


@pytest.mark.parametrize('text', [
    '80,20', 'a,b,c', '80,0,20', '0,50,50', '-1,1,1', 'nan,1,1', ''])
def test_shares_that_make_no_sense(text):
  with pytest.raises(errors.UsageError, match='splits: expected three numbers'):
    splitting.parse_shares(text)


def test_classes_that_are_too_small_are_named():
  with pytest.raises(errors.UsageError, match=r"at least 3 .* 'b' \(2\)"):
    _split(_source(10, 2))
  with pytest.raises(errors.UsageError, match=r"'a' \(none left to train on"):
    _split(_source(3, 30), '1,60,39')


def test_splits_are_named_for_all_or_for_none():
  source = _source(9, 9, splits=('', 'train'))
  with pytest.raises(errors.UsageError, match='first not for '):
    _split(source)
  with pytest.raises(errors.UsageError, match='has test, but no train'):
    _split(_source(9, 9, splits=('test',)))
