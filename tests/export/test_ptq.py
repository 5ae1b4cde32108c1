"""int8 files of float models: calibrated twins, or the converter's own."""

import json

import numpy as np
import pytest
import tf_keras

import modelgarden_opt
from modelgarden_opt import errors
from modelgarden_opt.cli import export as cli_export
from modelgarden_opt.cli import main
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import exporter
from modelgarden_opt.export import verification
from modelgarden_opt.modeling import constraints
from modelgarden_opt.tasks import quantized_twin
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import experiment
from tests import conftest
from tests import user_models


@pytest.fixture(scope='module')
def by_converter(float_run, tmp_path_factory):
  path = str(tmp_path_factory.mktemp('converter') / 'm.tflite')
  return exporter.export(
      float_run, 'int8', path, ptq='converter', calibration_images=64)


def test_a_twin_is_nearer_to_its_own_model_than_to_the_float_one(exported):
  found = exported('float', 'int8')
  assert (found['ranges'], found['ptq']) == ('calibrated', 'twin')
  assert len(found['calibrated_on']['records']) == 64
  twin = found['twin']
  assert twin['mean_difference_steps'] < found['mean_difference_steps']
  assert twin['agreement'] >= found['agreement']
  assert twin['limits']['mean'] < found['limits']['mean']


def test_the_converter_is_asked_as_before(by_converter):
  assert (by_converter['ranges'], by_converter['ptq']) == (
      'calibrated', 'converter')
  assert 'twin' not in by_converter
  assert not by_converter['float_ops']
  assert by_converter['agreement'] >= 0.9
  assert len(by_converter['calibrated_on']['records']) == 64


@pytest.mark.parametrize(('run', 'form'), [
    ('qat', 'int8'), ('float', 'float32')])
def test_only_integer_files_of_float_runs_have_a_twin(exported, run, form):
  found = exported(run, form)
  assert found['ptq'] is None and 'twin' not in found


def test_16_bits_have_the_ranges_of_the_twin(exported):
  found, of_8_bits = exported('float', 'int16x8'), exported('float', 'int8')
  assert (found['ranges'], found['ptq']) == ('calibrated', 'twin')
  assert found['calibrated_on'] == of_8_bits['calibrated_on']
  assert found['twin']['mean_difference_steps'] < 0.05
  # What is left is the error of kernels of 8 bits.
  assert found['max_difference'] < of_8_bits['max_difference']


def test_16_bits_without_a_twin_are_the_converters(
    float_run, tmp_path, monkeypatch):

  def refuse(*unused_args):
    raise errors.UsageError('no twin')
  monkeypatch.setattr(exporter.quantized_twin, 'of_run', refuse)
  found = exporter.export(float_run, 'int16x8', str(tmp_path / 'm.tflite'),
                          calibration_images=16)
  assert (found['ranges'], found['ptq']) == ('calibrated', 'converter')
  assert 'twin' not in found and len(found['calibrated_on']['records']) == 16


def test_fields_of_the_block_reach_the_twin(float_run, tmp_path, capsys):
  path, record = str(tmp_path / 'm.tflite'), tmp_path / 'm.json'
  assert main.main([
      'export', f'--model_dir={float_run}', '--format=int8',
      f'--output={path}', '--calibration_images=64', f'--output_json={record}',
      '--params_override=task.quantization.calibration_method=percentile,'
      'task.quantization.calibration_percentile=100,'
      'task.quantization.change_num_bits=true,'
      'task.quantization.num_bits_weight=4', '--no_verify']) == 0
  assert 'against its calibrated twin: same class on' in capsys.readouterr().out
  found = json.loads(record.read_text())
  assert any(kernel['dtype'] == 'int4' for kernel in found['kernels'])
  # The range of the output is the largest that the images cause.
  model = run_directory.load(float_run).model
  from modelgarden_opt.data import representative
  logits = np.concatenate([
      model(image, training=False) for image in
      representative.calibration_images(
          run_directory.load(float_run).task, 64)])
  step = litert_model.Model(path).output_scale
  assert step == pytest.approx(np.ptp(logits) / 255, rel=1e-3)


@pytest.mark.parametrize(('options', 'message'), [
    ({'ptq': 'twins'}, "did you mean 'twin'"),
    ({'params_override': 'task.quantization.calibration_metod=mse'},
     "no such field; did you mean 'calibration_method'"),
    ({'params_override': 'task.quantization.weight_granularity=none'},
     'must be one of per_channel, per_tensor'),
    ({'params_override': 'trainer.train_steps=5'},
     'fields of task.quantization only.*received trainer'),
    ({'params_override': 'task.quantization.calibration_method=mse',
      'ptq': 'converter'}, 'is for --format=int8 --ptq=twin of a float run')])
def test_wrong_requests_are_told(float_run, tmp_path, options, message):
  with pytest.raises(errors.UsageError, match=message):
    exporter.export(float_run, 'int8', str(tmp_path / 'm.tflite'), **options)
  assert not list(tmp_path.iterdir())


def test_a_twin_of_a_quantized_run_is_refused(qat_run, tmp_path):
  with pytest.raises(errors.UsageError, match='a quantized run'):
    exporter.export(qat_run, 'int8', str(tmp_path / 'm.tflite'),
                    params_override='task.quantization.num_bits_weight=8')


def test_a_twin_of_a_pruned_run_keeps_its_zeros(
    tiny_params, float_run, tmp_path):
  model_dir, path = str(tmp_path / 'run'), str(tmp_path / 'm.tflite')
  experiment.run_experiment(tiny_params('mobilenet_v2_pruning', {
      'task': {'pruning': {
          'end_step': 2, 'frequency': 1, 'final_sparsity': 0.6,
          'pretrained_original_checkpoint': float_run}},
      'trainer': {'train_steps': 4, 'steps_per_loop': 4}}), 'train', model_dir)
  exporter.export(model_dir, 'int8', path, calibration_images=32)
  run = run_directory.load(model_dir)
  before, after = (constraints.find(model) for model in (
      run.model, quantized_twin.of_run(run).model))
  assert len(before) == len(after) == 8
  for item, other in zip(before, after):
    np.testing.assert_array_equal(item.kernel.numpy(), other.kernel.numpy())
    assert item.transform.sparsity() == other.transform.sparsity() > 0.5
  kernels = {tuple(sorted(item.kernel.shape)) for item in before}
  for kernel in inspection.kernels(path):
    if tuple(sorted(kernel.values.shape)) in kernels:
      # Without the rule of 8 bits more of them would be zero.
      assert kernel.sparsity == pytest.approx(0.6, abs=1.01 / kernel.size)


def _unusual():
  image = tf_keras.Input([16, 16, 3])
  x = tf_keras.layers.Conv2D(4, 3)(image)
  x = tf_keras.layers.PReLU(shared_axes=[1, 2])(x)
  x = tf_keras.layers.GlobalAveragePooling2D()(x)
  return tf_keras.Model(image, tf_keras.layers.Dense(4)(x))


def test_a_model_without_a_twin_is_left_to_the_converter_by_name(tmp_path):
  images = conftest.random_images([32, 16, 16, 3]).numpy()
  path = str(tmp_path / 'm.tflite')
  with pytest.raises(errors.UsageError, match="PReLU[^$]*ptq: 'converter'"):
    modelgarden_opt.export(_unusual(), path, representative=images)
  found = modelgarden_opt.export(
      _unusual(), path, representative=images, ptq='converter')
  assert (found['ranges'], found['ptq']) == ('calibrated', 'converter')


def test_a_layer_without_integers_anywhere_is_left_in_float_by_a_rule(tmp_path):
  images = conftest.random_images([8, 32, 32, 3]).numpy()
  path = str(tmp_path / 'm.tflite')
  model = user_models.with_elu()
  with pytest.raises(verification.VerificationError) as e:
    modelgarden_opt.export(
        model, path, representative_data=images, ptq='converter')
  assert "{'ELU': 1}" in str(e.value)
  assert '{path: ..., enabled: false}' in str(e.value)
  assert 'calibration_images' not in str(e.value)
  found = modelgarden_opt.export(
      model, path, representative_data=images, quantization={
          'rules': [{'path': 'elu_0', 'enabled': False}]})
  assert found['float_ops'] == {'ELU': 1}


def test_a_model_in_memory_gets_a_twin_as_asked(tmp_path):
  from tests.api import test_fit_and_save as models
  path = str(tmp_path / 'm.tflite')
  pruned = modelgarden_opt.compress(
      models.two_branches(), pruning={
          'pruning_schedule': 'ConstantSparsity', 'final_sparsity': 0.5,
          'begin_step': 0, 'end_step': 0, 'frequency': 1})
  found = modelgarden_opt.export(
      pruned, path, representative=models.IMAGES,
      quantization={'calibration_method': 'min_max'})
  assert (found['ranges'], found['ptq']) == ('calibrated', 'twin')
  assert found['sparsity'] == pytest.approx(0.5, abs=0.02)
  expected = pruned(models.IMAGES, training=False).numpy()
  assert found['output_step'] == pytest.approx(
      np.ptp(expected) / 255, rel=1e-3)
  clustered = modelgarden_opt.compress(
      models.two_branches(), clustering={'number_of_clusters': 4})
  found = modelgarden_opt.export(
      clustered, path, representative=models.IMAGES)
  assert {kernel['distinct'] for kernel in found['kernels']} == {4}
  quantized = modelgarden_opt.compress(
      models.two_branches(), quantization={}, calibration_data=models.IMAGES)
  with pytest.raises(errors.UsageError, match='a quantized model'):
    modelgarden_opt.export(quantized, path, quantization={})


@pytest.mark.parametrize('ptq, steps, override, said', [
    ('twin', 4.6, None, True), ('twin', 1.3, None, False),
    ('twin', None, None, False), ('converter', 4.6, None, False),
    ('twin', 4.6, 'task.quantization.bias_correction=true', False)])
def test_what_helps_is_said_where_calibration_costs_much(
    ptq, steps, override, said):
  lines = cli_export._far_from_keras(
      {'ptq': ptq, 'mean_difference_steps': steps}, override)
  assert bool(lines) == said
  if said:
    assert 'bias_correction=true' in lines[0] and '4.6' in lines[0]
