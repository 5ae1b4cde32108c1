"""Kept rows are replaced by key, and tables show what is kept."""

import pytest

from projects import kept
from projects.targets import sparse_inference
from projects.targets import techniques
from tests import conftest


def test_rows_of_the_same_key_are_replaced_and_others_stay(tmp_path):
  path = str(tmp_path / 'rows.csv')

  def replace(*rows):
    kept.replace(
        path, ('name', 'n'), [{'name': name, 'n': n} for name, n in rows],
        key=lambda r: r['name'], rank=lambda r: r['name'])
    return [(r['name'], r['n']) for r in kept.read(path)]

  assert kept.read(path) == []
  assert replace(('b', 1), ('b', 2), ('c', 3)) == [
      ('b', '1'), ('b', '2'), ('c', '3')]
  assert replace(('b', 4), ('a', 5)) == [('a', '5'), ('b', '4'), ('c', '3')]


@pytest.mark.parametrize('study, page', [
    (techniques, 'projects/targets/README.md'),
    (sparse_inference, 'docs/targets.md')])
def test_tables_are_those_of_the_kept_rows(study, page):
  assert study.table() in (conftest.REPOSITORY / page).read_text()


def test_every_file_was_given_to_every_device():
  rows = {(r['variant'], r['device']) for r in kept.read(techniques.RESULTS)}
  assert rows == {(name, device) for name in techniques.VARIANTS
                  for device in techniques.DEVICES}


@pytest.mark.slow
def test_zeros_and_clusters_shrink_the_zipped_file(monkeypatch):
  monkeypatch.setattr(techniques, 'DEVICES', ('edgetpu',))
  zipped = {}
  for name in ('int8', 'int8, 80 % zeros', 'int8, 80 % zeros, 16 clusters'):
    row, = techniques.measure(32, name)
    assert row['num_cpu_ops'] == 0
    zipped[name] = row['gzip_bytes']
  dense, zeros, both = zipped.values()
  assert zeros < 0.5 * dense and both < 0.9 * zeros
