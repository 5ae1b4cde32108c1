"""The benchmark measures what it names."""

import gzip
import json
import re

import numpy as np
import pytest
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.benchmark import latency
from modelgarden_opt.benchmark import training
from modelgarden_opt.cli import main
from modelgarden_opt.export import convert
from tests import foreign


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


def test_ratios_are_to_the_first_file_with_their_interval(files):
  first, second = latency.benchmark(files, num_runs=30)['results']
  assert first['ratio'] == first['ratio_low'] == first['ratio_high'] == 1.0
  assert second['ratio'] == np.median(
      np.array(second['block_ms']) / first['block_ms']) != 1.0
  assert second['ratio_low'] < second['ratio'] < second['ratio_high']
  assert second['ratio_rounds'] == 6


def test_a_file_that_is_given_twice_is_compared_with_itself(files):
  first, again = latency.benchmark(files[:1] * 2, num_runs=30)['results']
  assert first['ratio'] == 1.0 and first['block_ms'] != again['block_ms']
  assert again['ratio'] == np.median(
      np.array(again['block_ms']) / first['block_ms'])


def test_a_single_block_has_no_interval(files):
  _, second = latency.benchmark(files, num_runs=5)['results']
  assert second['ratio_low'] is None and second['ratio_high'] is None


def test_a_missing_file_is_told(files):
  with pytest.raises(errors.UsageError, match='there is no file'):
    latency.benchmark([*files, 'nowhere.tflite'])


def test_the_table_shows_the_interval(files, capsys):
  assert main.main(['benchmark', '--num_runs=30',
                    *(f'--tflite={path}' for path in files)]) == 0
  lines = capsys.readouterr().out.splitlines()
  ratio = r' \d+\.\d+x \[\d+\.\d+, \d+\.\d+\]'
  assert '1.00x' in lines[1] and not re.search(ratio, lines[1])
  assert re.search(ratio, lines[2])
  assert 'a round is 5 runs' in lines[3]


@pytest.mark.parametrize('flag, rule', [
    ('--num_runs=0', 'must be >= 1'), ('--num_threads=-1', 'must lie in 1 to')])
def test_numbers_that_time_nothing_are_refused(flag, rule, files, capsys):
  assert main.main(['benchmark', f'--tflite={files[0]}', flag]) == 2
  assert rule in capsys.readouterr().err


def test_calls_take_turns():
  order = []
  seconds = training.in_turn(
      {name: lambda name=name: order.append(name) for name in 'abc'}, 2)
  assert order == list('abccba')
  assert [len(s) for s in seconds.values()] == [2, 2, 2]


def test_every_setting_is_timed_and_compared_with_the_first(
    files, tmp_path, capsys):
  output = tmp_path / 'o.json'
  assert main.main(['benchmark', '--num_runs=10', '--num_threads=1,2',
                    '--delegate=xnnpack,none', f'--output_json={output}',
                    *(f'--tflite={path}' for path in files)]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert 'to first file' in lines[0] and 'to first setting' in lines[0]
  assert len(lines) == 1 + 8 + 2
  found = json.loads(output.read_text())['results']
  assert [(r['model'], r['num_threads'], r['delegate']) for r in found] == [
      (path, threads, delegate) for delegate in ('xnnpack', 'none')
      for threads in (1, 2) for path in files]
  assert [r['num_delegate_partitions'] for r in found] == [1] * 4 + [0] * 4
  for record in found:
    first = next(r for r in found if (r['num_threads'], r['delegate']) == (
        record['num_threads'], record['delegate']))
    assert record['ratio'] == pytest.approx(np.median(
        np.array(record['block_ms']) / first['block_ms']))
    first = next(r for r in found if r['model'] == record['model'])
    assert record['to_first_setting']['ratio'] == pytest.approx(np.median(
        np.array(record['block_ms']) / first['block_ms']))


def test_a_file_costs_time_to_load_and_memory(files):
  small, large = latency.benchmark(files, num_runs=5)['results']
  for record in (small, large):
    assert record['load_ms'] > 0 and record['first_run_ms'] > 0
    assert record['median_ms_low'] is None
  # Two maps of 62 and 60 pixels with 128 and with 4 channels, float32.
  maps = 4 * (62**2 + 60**2)
  assert large['peak_memory_bytes'] - small['peak_memory_bytes'] > 0.4 * (
      124 * maps)


def test_a_file_that_never_ends_is_ended(tmp_path, files, capsys):
  path = tmp_path / 'endless.tflite'
  path.write_bytes(foreign.endless())
  assert main.main(['benchmark', f'--tflite={files[0]}', f'--tflite={path}',
                    '--time_limit=0.5', '--num_runs=5']) == 1
  assert capsys.readouterr().err == (
      f"benchmark: '{path}' gave no result within 0.5 seconds; --time_limit "
      'allows more\n')


@pytest.mark.parametrize('flag, told', [
    ('--num_threads=1,x', "num_threads: must lie in 1 to 1024, received 'x'"),
    ('--delegate=gpu', "delegate: 'gpu' is unknown"),
    ('--warm_up=0', 'warm_up: must be >= 1, received 0'),
    ('--time_limit=nan', 'time_limit: must be > 0, received nan')])
def test_wrong_settings_are_told(flag, told, files, capsys):
  assert main.main(['benchmark', f'--tflite={files[0]}', flag]) == 2
  assert told in capsys.readouterr().err
