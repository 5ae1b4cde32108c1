"""Every path may be one of TensorFlow's file systems: here, one in memory."""

import json
import threading

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import yaml

from modelgarden_opt import files
from modelgarden_opt.cli import main
from modelgarden_opt.training import metrics
from tests import tiny

_ROOT = 'ram://remote'


def _names(directory):
  return files.below(f'{_ROOT}/{directory}')


@pytest.fixture(scope='module')
def config():
  """A YAML file that names data next to it."""
  path = f'{_ROOT}/config.yaml'
  values = tiny.overrides(f'{_ROOT}/data')
  model = {**values['task']['model'],
           'backbone': {'mobilenet': {'model_id': 'Tiniest'}}}
  files.write_atomically(path, yaml.safe_dump(
      {**values, 'task': {**values['task'], 'model': model}}))
  return path


def _train(
    config, directory, steps, experiment='mobilenet_v2', override=None):
  override = override or (
      f'trainer.train_steps={steps},trainer.checkpoint_interval=30,'
      'trainer.steps_per_loop=30,trainer.validation_interval=30')
  return main.main([
      'train', f'--experiment={experiment}', f'--config_file={config}',
      f'--model_dir={directory}', f'--params_override={override}'])


@pytest.fixture(scope='module')
def run(config):
  """A run that was stopped after 30 steps and went on."""
  directory = f'{_ROOT}/run'
  assert _train(config, directory, 30) == 0
  assert _train(config, directory, 60) == 0
  return directory


@pytest.fixture(scope='module')
def exported(run):
  path = f'{run}/export/model.tflite'
  assert main.main([
      'export', f'--model_dir={run}', '--format=int8', f'--output={path}',
      f'--output_json={run}/export.json']) == 0
  return path


def test_a_run_trains_and_goes_on_as_it_does_on_a_disk(run, config, tmp_path):
  directory = str(tmp_path / 'run')
  assert _train(config, directory, 30) == _train(config, directory, 60) == 0
  local, remote = metrics.read(directory), metrics.read(run)
  assert [r['step'] for r in remote] == [30, 30, 60, 60]
  for here, there in zip(local, remote, strict=True):
    kept = here.keys() - {'time', 'split', 'steps_per_second'}
    assert {k: there[k] for k in kept} == pytest.approx(
        {k: here[k] for k in kept}, rel=1e-4)
  # Of a local run, all files; of the one in memory, the same.
  assert {n.partition('.')[0].partition('/')[0] for n in _names('run')} >= {
      'params', 'ckpt-60', 'best_ckpt', 'metrics', 'representative', 'train',
      'validation'}
  assert not [n for n in _names('') if '.tmp-' in n]


def test_a_run_is_exported_evaluated_timed_and_reported(run, exported, capsys):
  assert files.read_json(f'{run}/export.json')['verified']
  assert main.main([
      'evaluate', f'--model_dir={run}', f'--tflite={exported}',
      f'--output_json={run}/evaluation.json',
      f'--predictions={run}/predictions.npz']) == 0
  assert main.main([
      'benchmark', f'--tflite={exported}', '--num_runs=4',
      f'--output_json={run}/benchmark.json']) == 0
  assert main.main(['inspect', f'--tflite={exported}']) == 0
  assert main.main([
      'report', f'--runs={_ROOT}', f'--output_dir={_ROOT}/report']) == 0
  result = files.read_json(f'{_ROOT}/report/results.json')
  variant, = result['variants']
  assert variant['size_bytes'] == len(files.read_bytes(exported))
  assert variant['run'] == run and variant['top_1_accuracy'] > 0.1
  assert {'report.html', 'report.md', 'report.png'} <= {*_names('report')}
  assert len(files.read_bytes(f'{run}/evaluations.jsonl').splitlines()) == 1
  assert 'ram:/remote' not in capsys.readouterr().out


def test_a_picture_and_labels_are_read(exported, tmp_path, capsys):
  picture = tmp_path / 'a.png'
  Image.fromarray(np.full([32, 32, 3], 99, np.uint8)).save(picture)
  files.write_atomically(f'{_ROOT}/a.png', picture.read_bytes())
  files.write_atomically(f'{_ROOT}/labels.txt', '\n'.join('abcdefghij'))
  assert main.main([
      'predict', f'--tflite={exported}', f'--image={_ROOT}/a.png',
      f'--labels={_ROOT}/labels.txt']) == 0
  assert '1. class' in capsys.readouterr().out


def test_a_twin_starts_from_a_run(run, config):
  assert _train(
      config, f'{_ROOT}/qat', 2, 'mobilenet_v2_qat',
      f'task.quantization.pretrained_original_checkpoint={run},'
      'task.quantization.calibration_steps=2,'
      'trainer.train_steps=2,trainer.validation_interval=2') == 0
  assert 'ckpt-2.index' in _names('qat')


def test_images_are_imported_from_and_to_another_file_system(tmp_path):
  rng = np.random.default_rng(0)
  for name in 'ab':
    for index in range(10):
      path = tmp_path / f'{index}.png'
      Image.fromarray(rng.integers(0, 255, [8, 8, 3], np.uint8)).save(path)
      files.write_atomically(
          f'{_ROOT}/source/{name}/{index}.png', path.read_bytes())
  assert main.main([
      'data', 'import', f'--source={_ROOT}/source',
      f'--output_dir={_ROOT}/imported']) == 0
  described = files.read_json(f'{_ROOT}/imported/dataset.json')
  assert sum(described['num_examples'].values()) == 20
  assert main.main([
      'data', 'check', f'{_ROOT}/imported']) == 0


def test_what_is_not_there_is_one_message(capsys):
  assert main.main(['inspect', f'--tflite={_ROOT}/none.tflite']) == 2
  assert main.main(['report', f'--runs={_ROOT}/none']) == 2
  assert main.main([
      'train', '--experiment=mobilenet_v2', f'--config_file={_ROOT}/none.yaml',
      f'--model_dir={_ROOT}/none']) == 2
  err = capsys.readouterr().err.splitlines()
  assert len(err) == 3 and all('none' in line for line in err)


def test_files_of_several_writers_are_whole():
  path = f'{_ROOT}/atomic/a.json'
  values = [[i] * 1000 for i in range(4)]

  def write(value):
    for _ in range(20):
      files.write_json(path, value)

  threads = [threading.Thread(target=write, args=[v]) for v in values]
  for thread in threads:
    thread.start()
  read = []
  while any(thread.is_alive() for thread in threads):
    if files.exists(path):
      read.append(json.loads(files.read_bytes(path)))
  for thread in threads:
    thread.join()
  assert read and all(value in values for value in read)
  assert tf.io.gfile.listdir(f'{_ROOT}/atomic') == ['a.json']
