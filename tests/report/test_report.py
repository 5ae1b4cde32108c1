"""Reports join the records of one file by its path."""

import json

import pytest

from modelgarden_opt import errors
from modelgarden_opt.report import page
from modelgarden_opt.report import results

EVALUATION = {'results': [
    {'model': f'{n}.tflite', 'format': 'int8', 'num_examples': 360,
     'agreement': 0.99,
     'metrics': {'top_1_accuracy': a, 'top_5_accuracy': 1.0}}
    for n, a in (('a', 0.98), ('b', 0.975))]}
BENCHMARK = {'environment': {'processor': 'X'}, 'results': [
    {'model': f'{n}.tflite', 'median_ms': m, 'p90_ms': m, 'p99_ms': m,
     'min_ms': m, 'ratio': m / 2.0, 'num_runs': 10, 'num_threads': 1,
     'size_bytes': 2048, 'gzip_bytes': 1024, 'num_delegate_partitions': 1}
    for n, m in (('b', 1.0), ('a', 2.0))]}
VARIANTS = {'float32': 'a.tflite', 'int8': 'b.tflite'}


def test_records_are_joined_by_path_in_the_order_of_the_variants():
  joined = results.join(VARIANTS, [EVALUATION], BENCHMARK)
  assert [(v['name'], v['top_1_accuracy'], v['median_ms'], v['size_bytes'])
          for v in joined['variants']] == [
              ('float32', 0.98, 2.0, 2048), ('int8', 0.975, 1.0, 2048)]


def test_a_file_that_was_not_measured_is_told():
  with pytest.raises(errors.UsageError, match='no evaluation record'):
    results.join({'x': 'c.tflite'}, [EVALUATION], BENCHMARK)


def test_a_report_is_a_table_a_picture_and_json(tmp_path):
  joined = results.join(VARIANTS, [EVALUATION], BENCHMARK)
  page.write(joined, str(tmp_path), 'Title', 'make it')
  text = (tmp_path / 'report.md').read_text()
  assert ('| float32 | 98.00% | 100.00% | 2.0 | 1.0 | 2.000 | 1.00 | 99.00% |'
          in text)
  assert '# Title' in text and '`make it`' in text and 'report.png' in text
  assert (tmp_path / 'report.png').read_bytes().startswith(b'\x89PNG')
  assert json.loads((tmp_path / 'results.json').read_text()) == joined
