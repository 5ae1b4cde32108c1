"""A pipeline as a user runs it: killed anywhere, it ends with one table."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import yaml

from modelgarden_opt.cli import main
from tests import conftest

_STAGES = {
    'model': 'mnist_cnn',
    'stages': ['float', 'prune', 'cluster', 'qat', 'export', 'evaluate',
               'benchmark', 'report'],
    'all': {
        'runtime': {'distribution_strategy': 'off'},
        'trainer': {
            'train_steps': 20, 'steps_per_loop': 10, 'summary_interval': 10,
            'checkpoint_interval': 10, 'validation_interval': 20,
            'validation_steps': 2,
            'optimizer_config': {
                'optimizer': {'type': 'adam'},
                'learning_rate': {'type': 'constant',
                                  'constant': {'learning_rate': 0.003}},
                'warmup': {'type': None}}}},
    'prune': {'task': {'pruning': {
        'end_step': 10, 'frequency': 5, 'final_sparsity': 0.5}}},
    'benchmark': {'num_runs': 5},
}


def _data(data_dir, split, **more):
  return {'embedded_name': 'mnist', 'embedded_split': split, 'aug_crop': False,
          'embedded_dir': data_dir, 'global_batch_size': 50,
          'drop_remainder': False, **more}


@pytest.fixture(scope='module')
def config_file(data_dir, tmp_path_factory):
  path = tmp_path_factory.mktemp('pipeline') / 'stages.yaml'
  task = {
      'train_data': _data(
          data_dir, 'train', aug_rand_hflip=False, seed=3, deterministic=True,
          shuffle_buffer_size=50, cycle_length=1, drop_remainder=True),
      'validation_data': _data(data_dir, 'validation'),
      'test_data': _data(data_dir, 'test', is_training=False)}
  path.write_text(yaml.safe_dump(
      {**_STAGES, 'all': {**_STAGES['all'], 'task': task}}))
  return str(path)


def _table(model_dir):
  """What does not depend on the clock."""
  results = json.loads((pathlib.Path(model_dir) / 'results.json').read_text())
  timed = ('median_ms', 'p90_ms', 'min_ms', 'ratio', 'model')
  return [{k: v for k, v in variant.items() if k not in timed}
          for variant in results['variants']]


@pytest.fixture(scope='module')
def whole(config_file, tmp_path_factory):
  model_dir = str(tmp_path_factory.mktemp('whole'))
  assert main.main(['run', f'--config_file={config_file}',
                    f'--model_dir={model_dir}']) == 0
  return model_dir


def test_the_table_tells_what_every_stage_kept(whole):
  found = {variant['name']: variant for variant in _table(whole)}
  assert list(found) == [
      'float_float32', 'float_int8', 'prune_float32', 'prune_int8',
      'cluster_float32', 'cluster_int8', 'qat_int8']
  assert found['float_float32']['sparsity'] < 0.01
  for name in ('prune_float32', 'cluster_float32', 'qat_int8'):
    assert found[name]['sparsity'] == pytest.approx(0.5, abs=1e-4)
  assert found['qat_int8']['distinct'] <= 16
  assert found['qat_int8']['gzip_bytes'] < found['float_int8']['gzip_bytes']
  report = (pathlib.Path(whole) / 'report.md').read_text()
  assert '| qat_int8 |' in report and 'x smaller' in report


def test_complete_stages_are_skipped(whole, config_file, capsys):
  before = _table(whole)
  assert main.main(['run', f'--config_file={config_file}',
                    f'--model_dir={whole}']) == 0
  assert capsys.readouterr().out.split() == [
      word for name in _STAGES['stages'] for word in (f'{name}:', 'complete')]
  assert _table(whole) == before


def test_another_configuration_of_a_complete_stage_is_refused(
    whole, config_file, tmp_path, capsys):
  values = yaml.safe_load(pathlib.Path(config_file).read_text())
  values['prune']['task']['pruning']['final_sparsity'] = 0.6
  changed = tmp_path / 'changed.yaml'
  changed.write_text(yaml.safe_dump(values))
  assert main.main(['run', f'--config_file={changed}',
                    f'--model_dir={whole}']) == 2
  assert 'prune was completed with another' in capsys.readouterr().err


@pytest.mark.parametrize('killed_at', [
    'prune/ckpt-5.index',
    pytest.param('float/ckpt-20.index', marks=pytest.mark.slow),
    pytest.param('cluster/params.yaml', marks=pytest.mark.slow),
    pytest.param('qat/ckpt-10.index', marks=pytest.mark.slow),
    pytest.param('files/prune_int8.json', marks=pytest.mark.slow)])
def test_killed_in_any_stage_it_ends_with_the_same_table(
    killed_at, whole, config_file, tmp_path):
  model_dir = tmp_path / 'killed'
  command = [sys.executable, '-m', 'modelgarden_opt.cli.main', 'run',
             f'--config_file={config_file}', f'--model_dir={model_dir}']
  process = subprocess.Popen(
      command, cwd=conftest.REPOSITORY, stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL)
  deadline = time.monotonic() + 300
  while not (model_dir / killed_at).exists():
    assert process.poll() is None, 'it ended before it could be killed'
    assert time.monotonic() < deadline
    time.sleep(0.02)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  assert not (model_dir / 'results.json').exists()
  assert main.main(command[3:]) == 0
  assert _table(model_dir) == _table(whole)


def test_dry_run_prints_every_command_and_writes_nothing(
    config_file, tmp_path, capsys):
  out = tmp_path / 'none'
  assert main.main(['run', f'--config_file={config_file}',
                    f'--model_dir={out}', '--dry_run']) == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 4 + 7 + 4 + 1 + 1
  assert all(line.startswith('modelgarden-opt ') for line in lines)
  assert not out.exists()


def test_overrides_of_stages_are_checked_before_anything_runs(
    config_file, tmp_path, capsys):
  values = yaml.safe_load(pathlib.Path(config_file).read_text())
  values['qat'] = {'task': {'quantization': {'num_bit_weight': 4}}}
  path = tmp_path / 'bad.yaml'
  path.write_text(yaml.safe_dump(values))
  out = tmp_path / 'none'
  assert main.main(
      ['run', f'--config_file={path}', f'--model_dir={out}']) == 2
  message = capsys.readouterr().err
  assert 'qat: task.quantization.num_bit_weight: no such field' in message
  assert not out.exists()


@pytest.mark.parametrize('block, expected', [
    ({'qat': {'formats': ['int9']}}, "qat.formats: 'int9' is not an export"),
    ({'benchmark': {'num_runs': 'many'}}, "invalid int value: 'many'"),
    ({'evaluate': {'split': 'tset'}}, "invalid choice: 'tset'"),
])
def test_mistakes_of_late_stages_are_told_before_anything_runs(
    block, expected, config_file, tmp_path, capsys):
  values = yaml.safe_load(pathlib.Path(config_file).read_text())
  path, out = tmp_path / 'bad.yaml', tmp_path / 'none'
  path.write_text(yaml.safe_dump({**values, **block}))
  try:
    code = main.main(
        ['run', f'--config_file={path}', f'--model_dir={out}'])
  except SystemExit as e:
    code = e.code
  assert code == 2 and expected in capsys.readouterr().err
  assert not out.exists()
