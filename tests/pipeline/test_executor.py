"""A pipeline as a user runs it: killed anywhere, it ends with one table."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from modelgarden_opt.cli import main
from modelgarden_opt.cli import run as run_cli
from modelgarden_opt.pipeline import commands
from modelgarden_opt.pipeline import executor
from modelgarden_opt.pipeline import stages
from modelgarden_opt.tasks import run_directory
from tests import conftest
from tests import tiny

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
  """What depends neither on the clock nor on the directory."""
  results = json.loads((pathlib.Path(model_dir) / 'results.json').read_text())
  timed = ('median_ms', 'p90_ms', 'min_ms', 'model', 'run', 'dominated_by')
  return [{k: v for k, v in variant.items()
           if k not in timed and not k.startswith('ratio')}
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
  assert '| qat_int8 |' in report and 'times smaller' in report


def test_complete_stages_are_skipped(whole, config_file, capsys):
  before = _table(whole)
  assert main.main(['run', f'--config_file={config_file}',
                    f'--model_dir={whole}']) == 0
  assert capsys.readouterr().out.split() == [
      word for name in _STAGES['stages'] for word in (f'{name}:', 'complete')]
  assert _table(whole) == before


@pytest.fixture
def short_file(config_file, tmp_path):
  """Returns `make(**overrides of all)` of a pipeline of two trainings."""

  def make(**changes):
    values = yaml.safe_load(pathlib.Path(config_file).read_text())
    values = {key: values[key] for key in ('model', 'all', 'prune')}
    values['stages'] = ['float', 'prune', 'export', 'evaluate']
    values['all'] = stages.merge(values['all'], {
        **changes, 'trainer': {'validation_interval': 10,
                               **changes.get('trainer', {})}})
    values['float'] = {'formats': []}
    values['prune']['formats'] = ['float32']
    path = tmp_path / 'short.yaml'
    path.write_text(yaml.safe_dump(values))
    return str(path)

  return make


def test_without_a_best_checkpoint_stages_take_the_latest(
    short_file, tmp_path, capsys):
  command = ['run', '--config_file=' + short_file(
      trainer={'best_checkpoint_eval_metric': ''}),
             f'--model_dir={tmp_path / "run"}']
  assert main.main(command) == 0
  assert not (tmp_path / 'run/float/best_ckpt').exists()
  start = yaml.safe_load((tmp_path / 'run/prune.yaml').read_text())['task']
  assert start['pruning']['pretrained_original_checkpoint'] == str(
      tmp_path / 'run/float')
  exported = json.loads(
      (tmp_path / 'run/files/prune_float32.json').read_text())
  assert exported['checkpoint'].endswith('prune/ckpt-20')
  capsys.readouterr()
  assert main.main(command) == 0
  assert capsys.readouterr().out.count(': complete') == 4


@pytest.mark.slow
def test_all_stages_have_their_replicas(short_file, tmp_path):
  """In a process of its own: TensorFlow makes devices when it starts."""
  model_dir = tmp_path / 'run'
  config = short_file(runtime={
      'distribution_strategy': 'mirrored', 'num_logical_cpus': 2})
  done = subprocess.run(
      [sys.executable, '-m', 'modelgarden_opt.cli.main', 'run',
       f'--config_file={config}', f'--model_dir={model_dir}'],
      cwd=conftest.REPOSITORY, check=False, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-2000:]
  exported = json.loads((model_dir / 'files/prune_float32.json').read_text())
  assert exported['sparsity'] == pytest.approx(0.5, abs=1e-4)
  keras, file = json.loads(
      (model_dir / 'files/prune_evaluation.json').read_text())['results']
  assert file['metrics'] == keras['metrics']


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
    'prune/ckpt-10.index',
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
  # Trainings; one export and one evaluation of each; benchmark, report.
  assert len(lines) == 4 + 4 + 4 + 1 + 1
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
    ({'qat': {'formats': ['int9']}}, 'qat.formats[0]: must be one of float32'),
    ({'benchmark': {'num_runs': 'many'}},
     "benchmark.num_runs: expected int, received 'many'"),
    ({'evaluate': {'split': 'tset'}}, 'evaluate.split: must be one of train'),
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


def _run(config_file, model_dir, *flags):
  return main.main(['run', f'--config_file={config_file}',
                    f'--model_dir={model_dir}', *flags])


def _short(config_file, path, stages=('float', 'qat', 'export')):
  """Writes a pipeline of two short trainings; returns its path."""
  values = yaml.safe_load(pathlib.Path(config_file).read_text())
  values['stages'] = list(stages)
  values['all']['trainer'].update(train_steps=4, validation_interval=4,
                                  steps_per_loop=4)
  for stage in ('prune', 'benchmark'):
    values.pop(stage)
  path.write_text(yaml.safe_dump(values))
  return str(path)


# Every sign that YAML, gin or a shell reads as something else.
@pytest.mark.parametrize('name', [
    '- a,b {c: 1} d=e #f é', 'it\'s "so"'])
def test_the_directory_may_have_any_name(name, config_file, tmp_path):
  model_dir = tmp_path / name
  config = _short(config_file, tmp_path / 'short.yaml', ('float', 'qat'))
  assert _run(config, model_dir) == 0
  assert run_directory.load_yaml(str(model_dir / 'qat'))['task'][
      'quantization']['pretrained_original_checkpoint'] == (
          f'{model_dir}/float/best_ckpt')


@pytest.mark.parametrize('name', ['[1]', 'a*', 'b?'])
@pytest.mark.parametrize('command', ['run', 'train'])
def test_names_that_tensorflow_cannot_read_are_refused(
    name, command, config_file, tmp_path, capsys):
  config = _short(config_file, tmp_path / 'short.yaml')
  argv = [command, f'--config_file={config}', f'--model_dir={tmp_path}/{name}']
  if command == 'train':
    argv.append('--experiment=mnist_cnn')
  assert main.main(argv) == 2
  assert 'model_dir: TensorFlow finds no checkpoint' in capsys.readouterr().err
  assert not (tmp_path / name).exists()


def _complete(out):
  return [line.split(':')[0] for line in out.splitlines()
          if line.endswith(': complete')]


@pytest.fixture(scope='module')
def complete_run(config_file, tmp_path_factory):
  """Configuration and directory of two short trainings that are complete."""
  directory = tmp_path_factory.mktemp('short')
  config = _short(config_file, directory / 'short.yaml')
  assert _run(config, directory / 'run') == 0
  shutil.copytree(directory / 'run', directory / 'kept')
  return config, directory / 'run'


@pytest.fixture
def done(complete_run):
  """`complete_run` as it was: its records name its place."""
  config, model_dir = complete_run
  shutil.rmtree(model_dir)
  shutil.copytree(model_dir.with_name('kept'), model_dir)
  return config, model_dir


def test_a_training_that_is_done_again_makes_what_depends_on_it_outdated(
    done, capsys):
  config, model_dir = done
  assert _run(config, model_dir) == 0
  assert _complete(capsys.readouterr().out) == ['float', 'qat', 'export']
  shutil.rmtree(model_dir / 'float')
  assert _run(config, model_dir) == 0
  out = capsys.readouterr().out
  assert _complete(out) == []
  assert 'qat: what it starts from was made again' in out
  kept = sorted(p.name for p in (model_dir / 'outdated').iterdir())
  assert kept == ['qat-1']
  assert (model_dir / 'outdated' / 'qat-1' / 'params.yaml').exists()


@pytest.mark.slow
def test_so_does_a_training_whose_record_has_gone_or_that_went_on_by_hand(
    done, capsys):
  config, model_dir = done
  # The same weights of another run.
  shutil.rmtree(model_dir / 'float')
  (model_dir / 'complete' / 'float.json').unlink()
  assert _run(config, model_dir) == 0
  out = capsys.readouterr().out
  assert _complete(out) == []
  assert 'qat: what it starts from was made again' in out
  assert main.main([
      'train', '--experiment=mnist_cnn', f'--model_dir={model_dir / "float"}',
      f'--config_file={model_dir / "float.yaml"}',
      '--params_override=trainer.train_steps=8']) == 0
  capsys.readouterr()
  assert _run(config, model_dir) == 0
  assert _complete(capsys.readouterr().out) == []


def test_killed_after_a_training_was_done_again_the_rest_is_outdated_still(
    done, capsys):
  config, model_dir = done
  shutil.rmtree(model_dir / 'float')
  steps = commands.steps(run_cli.load(config), str(model_dir), '')
  executor.run(steps[:1], str(model_dir), main.main)
  # Half of the training that follows, too.
  started = commands.start_file(str(model_dir / 'qat'))
  before = json.loads(pathlib.Path(started).read_text())
  capsys.readouterr()
  assert _run(config, model_dir) == 0
  assert _complete(capsys.readouterr().out) == ['float']
  assert json.loads(pathlib.Path(started).read_text()) != before


def test_a_file_that_has_gone_is_made_again(done, capsys):
  config, model_dir = done
  (model_dir / 'files' / 'qat_int8.tflite').unlink()
  assert _run(config, model_dir) == 0
  assert _complete(capsys.readouterr().out) == ['float', 'qat']
  assert (model_dir / 'files' / 'qat_int8.tflite').exists()


def test_a_pipeline_of_an_earlier_version_goes_on(done):
  config, model_dir = done
  for name in ('float', 'qat'):
    (model_dir / 'complete' / f'{name}.json').write_text(
        json.dumps({'commands': ['train --other'], 'config': {}}))
    pathlib.Path(commands.start_file(str(model_dir / name))).unlink()
  assert _run(config, model_dir) == 0
  assert not (model_dir / 'outdated').exists()


@pytest.mark.parametrize('block, expected', [
    ({'qat': {'task': {'quantization': {'rules': [{'path': 'backbone/x*'}]}}}},
     r"qat: quantization.*: rule {path: 'backbone/x\*'.* matches no layer"),
    ({'qat': {'task': {'quantization': {'range_momentum': 2.0}}}},
     'qat.*range_momentum'),
    ({'prune': {'task': {'pruning': {'rules': [
        {'layer_type': 'Conv3D', 'final_sparsity': 0.1}]}}}},
     "prune: pruning: rule {path: '*', layer_type: 'Conv3D'} matches no layer"),
    ({'prune': {'task': {'pruning': {'pruning_schedule': 'Polynomial'}}}},
     'prune: task.pruning.pruning_schedule: must be one of PolynomialDecay'),
    ({'cluster': {'task': {'clustering': {'rules': [{'path': 'dense_9'}]}}}},
     "cluster: clustering: rule {path: 'dense_9'"),
    ({'qat': {'task': {'init_checkpoint': '/no/where'}}},
     "qat: task.init_checkpoint: no checkpoint at '/no/where'"),
])
@pytest.mark.parametrize('flags', [[], ['--dry_run']])
def test_rules_and_values_of_late_stages_are_wrong_before_anything_runs(
    block, expected, flags, config_file, tmp_path, capsys):
  values = yaml.safe_load(pathlib.Path(config_file).read_text())
  path, out = tmp_path / 'bad.yaml', tmp_path / 'none'
  path.write_text(yaml.safe_dump(stages.merge(values, block)))
  assert _run(path, out, *flags) == 2
  message = capsys.readouterr().err
  assert expected in message or re.search(expected, message), message
  assert not out.exists()


def test_what_is_wrong_with_several_stages_is_told_at_once(
    config_file, tmp_path, capsys):
  values = yaml.safe_load(pathlib.Path(config_file).read_text())
  values['prune']['task']['pruning']['rules'] = [{'path': 'no'}]
  values['qat'] = {'task': {'quantization': {'rules': [{'path': 'nor'}]}}}
  path = tmp_path / 'bad.yaml'
  path.write_text(yaml.safe_dump(values))
  assert _run(path, tmp_path / 'none', '--dry_run') == 2
  message = capsys.readouterr().err
  assert 'prune: pruning: rule' in message
  assert "\nqat: quantization: rule {path: 'nor'" in message


@pytest.mark.parametrize('pruning, expected', [
    ({'target': 'flop'}, 'prune: task.pruning.target: must be one of flops'),
    ({'rules': [{'path': 'no', 'enabled': False}]},
     "prune: task.pruning: rule {path: 'no', layer_type: '*'} matches no"),
    ({'keep_ratio': 0.001}, 'prune: task.pruning.keep_ratio: 0.001 is out of'),
    ({'target': 'latency', 'rules': [{'path': '*', 'enabled': False}]},
     'prune: task.pruning.rules[0]: switches pruning off in every layer')])
def test_what_is_wrong_with_channel_pruning_is_told(
    pruning, expected, data_dir, tmp_path, capsys):
  path = tmp_path / 'channels.yaml'
  path.write_text(yaml.safe_dump({
      'model': 'mobilenet_v2', 'stages': ['float', 'prune'],
      'all': tiny.overrides(data_dir),
      'prune': {'task': {'pruning': {'granularity': 'channel', **pruning}}}}))
  assert _run(path, tmp_path / 'none', '--dry_run') == 2
  assert expected in capsys.readouterr().err
