"""Chains of techniques: only the weights flow, and every invariant holds."""

import numpy as np
import pytest

from modelgarden_opt import errors
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.export import exporter
from modelgarden_opt.export import invariants
from modelgarden_opt.modeling import constraints
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import experiment

_SHORT = {'trainer': {'train_steps': 20, 'steps_per_loop': 10,
                      'checkpoint_interval': 20, 'validation_interval': 20}}


def _train(tiny_params, tmp_path_factory, name, task):
  model_dir = str(tmp_path_factory.mktemp(name))
  experiment.run_experiment(
      tiny_params(name, _SHORT, {'task': task}), 'train', model_dir)
  return model_dir


@pytest.fixture(scope='module')
def pruned(tiny_params, float_run, tmp_path_factory):
  return _train(tiny_params, tmp_path_factory, 'mobilenet_v2_pruning', {
      'pruning': {'pretrained_original_checkpoint': float_run,
                  'pruning_schedule': 'ConstantSparsity', 'end_step': 0,
                  'final_sparsity': 0.5}})


@pytest.fixture(scope='module')
def clustered(tiny_params, pruned, tmp_path_factory):
  return _train(tiny_params, tmp_path_factory, 'mobilenet_v2_clustering', {
      'clustering': {'pretrained_original_checkpoint': pruned,
                     'number_of_clusters': 8, 'preserve_sparsity': True}})


def _kernels(model_dir):
  found = constraints.find(run_directory.load(model_dir, 'latest').model)
  assert constraints.problems(found) == []
  return {item.path: item.kernel.numpy() for item in found}


def _file(model_dir, tmp_path):
  path = str(tmp_path / 'model.tflite')
  found = exporter.export(model_dir, 'int8', path)
  assert found['agreement'] >= 0.95
  assert found['num_delegate_partitions'] == 1
  return [k for k in inspection.kernels(path) if k.op != 'DEPTHWISE_CONV_2D']


def test_pqat_keeps_every_zero_up_to_the_file(
    tiny_params, pruned, tmp_path_factory, tmp_path):
  before = _kernels(pruned)
  model_dir = _train(tiny_params, tmp_path_factory, 'mobilenet_v2_pqat', {
      'quantization': {'pretrained_original_checkpoint': pruned}})
  after = _kernels(model_dir)
  assert before.keys() == after.keys()
  for path, kernel in after.items():
    np.testing.assert_array_equal(kernel == 0, before[path] == 0, path)
    assert np.any(kernel != before[path]), path
  kernels = _file(model_dir, tmp_path)
  assert len(kernels) == len(before)
  for kernel in kernels:
    assert abs(np.sum(kernel.values == 0) - kernel.size / 2) <= 1, kernel.name


def test_clustering_keeps_zeros_and_shares_values(pruned, clustered):
  before = _kernels(pruned)
  for path, kernel in _kernels(clustered).items():
    assert len(np.unique(kernel)) <= 8, path
    np.testing.assert_array_equal(kernel == 0, before[path] == 0, path)


def test_pcqat_keeps_zeros_and_clusters_up_to_the_file(
    tiny_params, clustered, tmp_path_factory, tmp_path):
  before = _kernels(clustered)
  model_dir = _train(
      tiny_params, tmp_path_factory, 'mobilenet_v2_pcqat',
      {'clustering': {'number_of_clusters': 8},
       'quantization': {'pretrained_original_checkpoint': clustered}})
  for path, kernel in _kernels(model_dir).items():
    assert len(np.unique(kernel)) <= 8, path
    assert np.any(kernel != before[path]), path
  for kernel in _file(model_dir, tmp_path):
    assert kernel.distinct <= 8, kernel.name
    assert abs(np.sum(kernel.values == 0) - kernel.size / 2) <= 1


@pytest.mark.parametrize('file_format', ['float32', 'float16'])
def test_floats_keep_zeros_and_clusters_of_channels(
    file_format, clustered, tmp_path):
  path = str(tmp_path / 'model.tflite')
  exporter.export(clustered, file_format, path)
  for kernel in inspection.kernels(path):
    if kernel.op != 'DEPTHWISE_CONV_2D':
      assert kernel.distinct_per_channel <= 8, kernel.name
      assert abs(np.sum(kernel.values == 0) - kernel.size / 2) <= 1


def test_a_file_that_lost_its_form_is_told(clustered, float_run, tmp_path):
  path = str(tmp_path / 'model.tflite')
  exporter.export(float_run, 'float32', path)
  model = run_directory.load(clustered).model
  lines = invariants.problems(model, inspection.kernels(path), quantized=False)
  assert any('zeros became 0' in line for line in lines)
  assert any('8 distinct values became' in line for line in lines)


def test_clusters_per_channel_reach_the_file(
    tiny_params, float_run, tmp_path_factory, tmp_path):
  block = {'number_of_clusters': 4, 'cluster_per_channel': True}
  model_dir = _train(tiny_params, tmp_path_factory, 'mobilenet_v2_cqat', {
      'clustering': {**block, 'cluster_centroids_init': 'KMEANS_PLUS_PLUS'},
      'quantization': {'pretrained_original_checkpoint': float_run}})
  kernels = _file(model_dir, tmp_path)
  assert all(kernel.distinct_per_channel <= 4 for kernel in kernels)
  assert any(kernel.distinct > 4 for kernel in kernels)


def test_a_checkpoint_without_clusters_or_zeros_is_refused(
    tiny_params, float_run, tmp_path):
  for name, expected in (
      ('mobilenet_v2_cqat', 'distinct values, more than 16'),
      ('mobilenet_v2_pqat', 'there are none; give a pruned checkpoint')):
    params = tiny_params(name, _SHORT, {'task': {
        'quantization': {'pretrained_original_checkpoint': float_run}}})
    with pytest.raises(errors.UsageError, match=expected):
      experiment.run_experiment(params, 'train', str(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()
