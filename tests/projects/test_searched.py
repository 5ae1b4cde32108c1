"""What a search found is kept as rows, and drawn."""

import json

from projects import kept
from projects.fashion_mnist import searched


def _trial(name, kind, size, difference, **more):
  return {
      'name': name, 'kind': kind, 'size_bytes': 2 * size, 'gzip_bytes': size,
      'seconds': 3.0, 'test': {
          'top_1_accuracy': 0.9 + difference, 'num_examples': 100,
          'median_ms': 0.2, 'ratio': size / 1000, 'ratio_low': 0.9,
          'ratio_high': 1.1, **({} if kind == 'float' else {'difference': {
              'value': difference, 'low': difference - 0.01,
              'high': difference + 0.01}})}, **more}


def test_rows_say_what_the_search_said_and_are_drawn(tmp_path):
  untested = {**_trial('searched 1', 'searched', 50, -0.2)}
  del untested['test']
  (tmp_path / 'search.json').write_text(json.dumps({
      'winner': {'name': 'searched 2'}, 'trials': [
          _trial('float32', 'float', 1000, 0.0),
          _trial('8 bits', 'uniform', 300, -0.01, layers={'8 bits': 53}),
          untested, _trial('searched 2', 'searched', 80, -0.005)]}))
  rows = list(searched.of_search(str(tmp_path)))
  path = str(tmp_path / 'files.csv')
  kept.replace(path, searched.FIELDS, rows, lambda row: row['name'])
  found = kept.read(path)
  assert [(row['name'], row['kind']) for row in found] == [
      ('float32', 'float'), ('8 bits', 'uniform'), ('searched 2', 'winner')]
  assert found[1]['layers'] == '53 8 bits' and found[1]['gzip_bytes'] == '300'
  assert found[2]['difference_low'] == '-0.015'
  searched.draw(found, str(tmp_path / 'p.png'))
  assert (tmp_path / 'p.png').read_bytes().startswith(b'\x89PNG')
