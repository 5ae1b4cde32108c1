"""SIGTERM and Ctrl-C save a checkpoint; the run ends as if there were none."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt.cli import main
from modelgarden_opt.data.importing import shards
from modelgarden_opt.tasks import compressed
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import metrics
from modelgarden_opt.training import portions
from modelgarden_opt.training import progress_action
from tests import conftest
from tests.faults import cases

_EMA = {'trainer': {'optimizer_config': {'ema': {'average_decay': 0.9}}}}


@pytest.fixture(scope='module')
def argv(data_dir, tmp_path_factory):
  """Returns `make(model_dir)` of the command line of a training."""
  directory = tmp_path_factory.mktemp('signals')

  def make(model_dir, **overrides):
    config = cases.write(directory / f'{len(list(directory.iterdir()))}.yaml',
                         cases.training(data_dir, **overrides))
    return ['train', '--experiment=mnist_cnn', f'--config_file={config}',
            f'--model_dir={model_dir}']

  return make


@pytest.fixture(scope='module')
def whole(argv, tmp_path_factory):
  """An undisturbed run, and one with moving averages."""
  directory = tmp_path_factory.mktemp('whole')
  for name, overrides in (('plain', {}), ('ema', _EMA)):
    assert main.main(argv(directory / name, **overrides)) == 0
  return directory


def _weights(model_dir, checkpoint):
  return run_directory.load(str(model_dir), checkpoint).model.get_weights()


def _assert_same_end(model_dir, expected):
  for checkpoint in ('latest', 'best'):
    for a, b in zip(_weights(model_dir, checkpoint),
                    _weights(expected, checkpoint), strict=True):
      np.testing.assert_array_equal(a, b)
  a, b = ([(r['step'], r['split']) for r in metrics.read(str(directory))]
          for directory in (model_dir, expected))
  assert a == b
  a, b = ([(r['step'], r['accuracy']) for r in metrics.read(str(directory))
           if r['split'] == 'validation']
          for directory in (model_dir, expected))
  assert a == b


@pytest.fixture
def signal_at(monkeypatch):
  """Returns `at(where, name, step, signal)`: a method gets the signal."""

  def at(where, name, step, number=signal.SIGTERM):
    original = getattr(where, name)

    def sending(self, *args):
      now = int((getattr(self, '_global_step', None)
                 if step else tf.Variable(0)).numpy())
      if now >= step and not sent:
        sent.append(now)
        os.kill(os.getpid(), number)
      return original(self, *args)

    sent = []
    monkeypatch.setattr(where, name, sending)

  return at


@pytest.mark.parametrize('number', [
    signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_at_the_end_of_a_loop(number, argv, whole, signal_at, tmp_path, capsys):
  signal_at(progress_action.ProgressAction, '__call__', 12, number)
  command = argv(tmp_path / 'run')
  assert main.main(command) == 128 + number
  assert 'the checkpoint of step 12 is saved' in capsys.readouterr().err
  assert sorted(os.listdir(tmp_path / 'run'))[:5] == [
      'best_ckpt', 'checkpoint', 'ckpt-12.data-00000-of-00001',
      'ckpt-12.index', 'ckpt-8.data-00000-of-00001']
  assert signal.getsignal(number) in (
      signal.SIG_DFL, signal.default_int_handler)
  assert main.main(command) == 0
  _assert_same_end(tmp_path / 'run', whole / 'plain')


def test_in_a_loop_that_is_long(
    argv, whole, signal_at, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(portions, '_PORTION', 1e-6)
  monkeypatch.setattr(portions, '_REST', 0)
  signal_at(portions.Trainer, '_take', 10)
  command = argv(tmp_path / 'run')
  assert main.main(command) == 143
  assert 'the checkpoint of step 11 is saved' in capsys.readouterr().err
  assert main.main(command) == 0
  _assert_same_end(tmp_path / 'run', whole / 'plain')


@pytest.mark.parametrize('name', [
    'ema', pytest.param('plain', marks=pytest.mark.slow)])
def test_in_an_evaluation(name, argv, whole, signal_at, tmp_path, capsys):
  signal_at(portions.Trainer, 'eval_reduce', 16)
  command = argv(tmp_path / 'run', **(_EMA if name == 'ema' else {}))
  assert main.main(command) == 143
  assert 'the checkpoint of step 16 is saved' in capsys.readouterr().err
  assert metrics.read(str(tmp_path / 'run'))[-1]['split'] == 'train'
  assert main.main(command) == 0
  _assert_same_end(tmp_path / 'run', whole / name)


@pytest.mark.slow
def test_an_evaluation_of_a_step_that_was_not_saved(
    argv, signal_at, tmp_path, capsys):
  """What is saved are the weights, not their moving averages."""
  overrides = {**_EMA, 'trainer': {
      **_EMA['trainer'], 'checkpoint_interval': 24}}
  command = argv(tmp_path / 'run', **overrides)
  assert main.main(argv(tmp_path / 'whole', **overrides)) == 0
  signal_at(portions.Trainer, 'eval_reduce', 16)
  assert main.main(command) == 143
  assert main.main(command) == 0
  _assert_same_end(tmp_path / 'run', tmp_path / 'whole')
  assert 'the checkpoint of step 16 is saved' in capsys.readouterr().err


def test_before_the_first_step_nothing_is_left(
    argv, signal_at, tmp_path, capsys):
  signal_at(compressed.CompressedTask, 'initialize', 0)
  assert main.main(argv(tmp_path / 'run')) == 143
  assert 'train: stopped by SIGTERM' in capsys.readouterr().err
  assert not (tmp_path / 'run').exists()


def test_a_pipeline_ends_with_the_code_of_its_stage(
    data_dir, signal_at, tmp_path, capsys):
  config = cases.write(tmp_path / 'p.yaml', {
      'model': 'mnist_cnn', 'stages': ['float', 'export'],
      'all': cases.training(data_dir), 'float': {'formats': ['float32']}})
  command = ['run', f'--config_file={config}', f'--model_dir={tmp_path}/run']
  signal_at(progress_action.ProgressAction, '__call__', 12)
  assert main.main(command) == 143
  assert 'the checkpoint of step 12 is saved' in capsys.readouterr().err
  assert main.main(command) == 0
  assert (tmp_path / 'run/files/float_float32.tflite').exists()
  signal_at(compressed.CompressedTask, 'build_model', 0)
  assert main.main([
      'export', f'--model_dir={tmp_path}/run/float', '--format=float32',
      f'--output={tmp_path}/m.tflite']) == 143
  assert not (tmp_path / 'm.tflite').exists()


def test_an_import_goes_on(monkeypatch, tmp_path, capsys):
  original = shards.write

  def write(shard, prepared):
    if shard.split == 'test' and not sent:
      sent.append(1)
      os.kill(os.getpid(), signal.SIGTERM)
    return original(shard, prepared)

  sent = []
  monkeypatch.setattr(shards, 'write', write)
  command = ['data', 'build', 'digits', f'--output_dir={tmp_path / "d"}']
  assert main.main(command) == 143
  assert 'data: stopped by SIGTERM' in capsys.readouterr().err
  assert not (tmp_path / 'd').exists()
  assert main.main(command) == 0
  assert os.listdir(tmp_path) == ['d']


@pytest.mark.slow
def test_a_process_ends_with_143(argv, tmp_path):
  command = argv(tmp_path / 'run', trainer={'train_steps': 100000})
  with subprocess.Popen(
      [sys.executable, '-m', 'modelgarden_opt.cli.main', *command],
      cwd=conftest.REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
      text=True) as process:
    while not process.stdout.readline().startswith('progress'):
      assert process.poll() is None
    process.terminate()
    _, err = process.communicate(timeout=60)
  assert process.returncode == 143
  assert 'SIGTERM: a checkpoint is saved' in err and 'Traceback' not in err
  assert not [name for name in os.listdir(tmp_path / 'run')
              if 'temp' in name or name == 'lock.json']
