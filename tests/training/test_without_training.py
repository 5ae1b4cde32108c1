"""A run without training is a run directory like any other."""

import os

import numpy as np
import pytest

from modelgarden_opt import errors
from modelgarden_opt.export import exporter
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import constraints
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import experiment
from modelgarden_opt.training import metrics


def _block(float_run, **fields):
  return {'task': {'quantization': {
      'training': False, 'pretrained_original_checkpoint': float_run,
      'calibration_steps': 2, 'calibration_method': 'mse', **fields}}}


@pytest.fixture(scope='module')
def ptq_run(tiny_params, float_run, made_once):
  return made_once('ptq_run', lambda model_dir: experiment.run_experiment(
      tiny_params('mobilenet_v2_qat', _block(float_run)), 'train_and_eval',
      model_dir))


def test_it_holds_the_float_weights_and_one_evaluation(ptq_run, float_run):
  run = run_directory.load(ptq_run)
  assert run.checkpoint.endswith(os.path.join('best_ckpt', 'best_ckpt-0'))
  expected = run_directory.load(float_run).model
  np.testing.assert_array_equal(
      run.model.backbone.layers[1]._conv0.kernel.numpy(),
      expected.backbone.layers[1]._conv0.kernel.numpy())
  assert calibration.is_calibrated(run.model)
  found, = metrics.read(ptq_run)
  assert (found['step'], found['split']) == (0, 'validation')
  before = max(record.get('accuracy', 0) for record in metrics.read(float_run)
               if record['split'] == 'validation')
  assert found['accuracy'] >= before - 0.05


def test_it_is_exported_as_what_it_is(ptq_run, tmp_path):
  found = exporter.export(ptq_run, 'int8', str(tmp_path / 'm.tflite'))
  assert (found['ranges'], found['ptq']) == ('calibrated', 'twin')
  assert found['calibrated_on'] is None and found['agreement'] >= 0.95


def test_a_complete_run_says_so_and_is_not_changed(
    ptq_run, tiny_params, float_run, capsys):
  def state():
    return {name: os.stat(os.path.join(ptq_run, name)).st_mtime_ns
            for name in ('checkpoint', 'best_ckpt', 'metrics.jsonl')}
  before = state()
  experiment.run_experiment(
      tiny_params('mobilenet_v2_qat', _block(float_run)), 'train_and_eval',
      ptq_run)
  assert f'{ptq_run} is complete' in capsys.readouterr().out
  assert state() == before
  with pytest.raises(errors.UsageError, match=(
      "calibration_method was 'mse', is 'entropy'")):
    experiment.run_experiment(
        tiny_params('mobilenet_v2_qat', _block(
            float_run, calibration_method='entropy')), 'train', ptq_run)


def test_a_run_killed_before_its_evaluation_makes_up_for_it(
    tiny_params, float_run, tmp_path, capsys):
  params = tiny_params('mobilenet_v2_qat', _block(float_run))
  experiment.run_experiment(params, 'train', str(tmp_path))
  assert 'trainer.train_steps 120 is ignored' in capsys.readouterr().out
  assert not metrics.read(str(tmp_path))
  logs = experiment.run_experiment(params, 'train_and_eval', str(tmp_path))
  assert logs['accuracy'] > 0.5 and len(metrics.read(str(tmp_path))) == 1


def test_it_needs_a_checkpoint(tiny_params, tmp_path):
  params = tiny_params(
      'mobilenet_v2_qat', {'task': {'quantization': {'training': False}}})
  with pytest.raises(errors.UsageError, match='is needed with training: false'):
    experiment.run_experiment(params, 'train', str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_zeros_are_those_of_the_end_of_the_schedule(
    tiny_params, float_run, tmp_path):
  """And are there before ranges are measured."""
  params = tiny_params('mobilenet_v2_qat', _block(
      float_run, weight_range='mse'), {'task': {'pruning': {
          'end_step': 90, 'final_sparsity': 0.75, 'rules': [
              {'path': 'dense_0', 'enabled': False}]}}})
  experiment.run_experiment(params, 'train', str(tmp_path))
  model = run_directory.load(str(tmp_path), 'latest').model
  masks = constraints.find(model, 'pruning')
  assert len(masks) == 7 and constraints.problems(masks) == []
  for item in masks:
    size = item.kernel.shape.num_elements()
    assert np.sum(item.kernel.numpy() == 0) == pytest.approx(
        0.75 * size, abs=1)
  for item in constraints.find(model, 'quantization'):
    np.testing.assert_allclose(
        item.transform.limit, item.transform.search_range(item.kernel))


def test_two_replicas_round_adaptively_like_one(
    tiny_params, float_run, tmp_path):
  found = []
  for name, runtime in (('one', {}), ('two', {
      'distribution_strategy': 'mirrored', 'num_logical_cpus': 2})):
    params = tiny_params('mobilenet_v2_qat', {'runtime': runtime, 'task': {
        'quantization': {
            'training': False, 'pretrained_original_checkpoint': float_run,
            'change_num_bits': True, 'num_bits_weight': 4,
            'weight_range': 'mse', 'rounding': 'adaround',
            'calibration_steps': 2}}})
    experiment.run_experiment(params, 'train', str(tmp_path / name))
    found.append(run_directory.load(str(tmp_path / name), 'latest').model)
  for one, two in zip(*(model.variables for model in found)):
    np.testing.assert_allclose(one, two, atol=1e-6, err_msg=one.name)
  kernels = [np.unique(v.numpy()).size for v in found[1].variables
             if v.shape.rank == 2]
  assert kernels and max(kernels) <= 15  # The dense kernel is on its grid.
