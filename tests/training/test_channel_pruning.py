"""Structured pruning as a user runs it: smaller, resumed, quantized."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from modelgarden_opt import errors
from modelgarden_opt.export import exporter
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import experiment

_CHANNELS = {'granularity': 'channel', 'keep_ratio': 0.7, 'batch_norm_steps': 4}
_SHORT = {'trainer': {'train_steps': 20, 'steps_per_loop': 10,
                      'checkpoint_interval': 10, 'validation_interval': 20}}


def _params(tiny_params, float_run, experiment='mobilenet_v2_pruning', **more):
  return tiny_params(experiment, _SHORT, {'task': {'pruning': {
      **_CHANNELS, 'pretrained_original_checkpoint': float_run, **more}}})


@pytest.fixture(scope='module')
def pruned(tiny_params, float_run, tmp_path_factory):
  model_dir = str(tmp_path_factory.mktemp('channels'))
  experiment.run_experiment(
      _params(tiny_params, float_run, importance='taylor'), 'train_and_eval',
      model_dir)
  return model_dir


def _filters(model_dir):
  with open(os.path.join(model_dir, 'architecture.json')) as f:
    return json.load(f)['filters']


def test_the_run_directory_alone_rebuilds_the_model(
    pruned, float_run, tmp_path):
  filters = _filters(pruned)
  assert all(count % 8 == 0 for count in filters.values())
  small = run_directory.load(pruned)
  assert small.model.count_params() < 0.9 * run_directory.load(
      float_run).model.count_params()
  found = exporter.export(pruned, 'float32', str(tmp_path / 'small.tflite'))
  shapes = {tuple(k['shape'][:1]) for k in found['kernels']}
  assert {(count,) for count in filters.values()} <= shapes
  assert found['agreement'] == 1.0


def test_the_best_checkpoint_is_enough(pruned, tmp_path):
  copy = str(tmp_path / 'copy')
  shutil.copytree(pruned, copy, ignore=shutil.ignore_patterns('ckpt-*'))
  shutil.copytree(os.path.join(pruned, 'best_ckpt'),
                  os.path.join(copy, 'best_ckpt'), dirs_exist_ok=True)
  os.remove(os.path.join(copy, 'checkpoint'))
  assert run_directory.load(copy).model.count_params() == run_directory.load(
      pruned).model.count_params()


def test_a_killed_run_resumes_as_it_was(pruned, tiny_params, tmp_path):
  before = _filters(pruned)
  params = _params(tiny_params, 'gone', importance='taylor')
  params.override({'trainer': {'train_steps': 30}})
  experiment.run_experiment(params, 'train', pruned)
  assert _filters(pruned) == before
  assert run_directory.load(pruned, 'latest').checkpoint.endswith('-30')


def test_qat_takes_over_the_architecture(
    pruned, tiny_params, tmp_path_factory, tmp_path):
  model_dir = str(tmp_path_factory.mktemp('quantized'))
  params = tiny_params('mobilenet_v2_qat', _SHORT, {'task': {'quantization': {
      'pretrained_original_checkpoint': os.path.join(pruned, 'best_ckpt'),
      'calibration_steps': 4}}})
  experiment.run_experiment(params, 'train', model_dir)
  assert _filters(model_dir) == _filters(pruned)
  found = exporter.export(model_dir, 'int8', str(tmp_path / 'small.tflite'))
  assert found['agreement'] >= 0.95
  assert not found['float_ops']


def test_pruning_and_quantization_in_one_run_beside_other_checkpoints(
    tiny_params, float_run, tmp_path):
  params = _params(tiny_params, float_run, 'mobilenet_v2_pqat')
  model_dir = str(tmp_path / 'run')
  for name in ('earlier', 'best_ckpt'):
    os.makedirs(os.path.join(model_dir, name))
    pathlib.Path(model_dir, name, 'checkpoint').write_text('')
  experiment.run_experiment(params, 'train', model_dir)
  assert _filters(model_dir)
  assert run_directory.load(model_dir, 'latest').model.count_params() < (
      0.9 * run_directory.load(float_run).model.count_params())
  found = exporter.export(
      model_dir, 'int8', str(tmp_path / 'small.tflite'), checkpoint='latest')
  assert found['agreement'] >= 0.95


def test_a_model_that_starts_from_a_checkpoint_is_close_to_it(
    tiny_params, float_run):
  """Before any training: most of what the whole model knew is there."""
  from official.core import task_factory
  params = _params(tiny_params, float_run, keep_ratio=0.85)
  task = task_factory.get_task(params.task)
  model = task.build_model()
  task.initialize(model)
  images, labels = next(iter(task.build_inputs(params.task.validation_data)))
  predicted = np.argmax(model(images, training=False), -1)
  assert np.mean(predicted == labels) > 0.5


@pytest.mark.parametrize('values, expected', [
    ({'final_sparsity': 0.5}, 'final_sparsity: is not read with granularity'),
    ({'rules': [{'path': '*', 'end_step': 3}]}, r'rules\[0\].end_step: is not'),
    ({'keep_ratio': 1.5}, 'keep_ratio: must lie in'),
    ({'importance': 'size'}, 'importance: must be one of'),
    ({'granularity': 'filter'}, 'granularity: must be one of'),
    ({'granularity': 'weight', 'batch_norm_steps': -1}, 'batch_norm_steps'),
])
def test_fields_that_do_not_go_together(tiny_params, values, expected):
  from modelgarden_opt.configs import overrides
  params = tiny_params('mobilenet_v2_pruning', _SHORT, {
      'task': {'pruning': {'granularity': 'channel', **values}}})
  with pytest.raises(errors.UsageError, match=expected):
    overrides.finish(params)
