"""The benchmark measures what it names."""

import gzip

import pytest
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.benchmark import latency
from modelgarden_opt.export import convert


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  directory = tmp_path_factory.mktemp('files')
  paths = []
  for name, filters in (('small', 4), ('large', 128)):
    model = tf_keras.Sequential([
        tf_keras.layers.Conv2D(filters, 3, input_shape=[64, 64, 3]),
        tf_keras.layers.Conv2D(filters, 3)])
    path = directory / f'{name}.tflite'
    path.write_bytes(convert.convert(model, 'float32'))
    paths.append(str(path))
  return paths


def test_records_have_the_contracted_fields(files):
  measured = latency.benchmark(files, num_runs=7)
  assert {'processor', 'num_cores', 'tensorflow'} <= (
      measured['environment'].keys())
  assert [r['model'] for r in measured['results']] == files
  for record, path in zip(measured['results'], files):
    content = open(path, 'rb').read()
    assert record['size_bytes'] == len(content)
    assert record['gzip_bytes'] == len(gzip.compress(content, 9))
    assert record['num_runs'] == 10 and record['num_threads'] == 1
    assert record['num_delegate_partitions'] == 1
    assert 0 < record['min_ms'] <= record['median_ms'] <= record['p90_ms'] <= (
        record['p99_ms'])


def test_ratios_are_to_the_first_file(files):
  first, second = latency.benchmark(files, num_runs=5)['results']
  assert first['ratio'] == 1.0
  assert second['ratio'] == second['block_ms'][0] / first['block_ms'][0] != 1.0


def test_a_missing_file_is_told(files):
  with pytest.raises(errors.UsageError, match='there is no file'):
    latency.benchmark([*files, 'nowhere.tflite'])
