"""A loaded model has the weights that evaluation scored."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml

from modelgarden_opt.cli import main
from modelgarden_opt.data import representative
from modelgarden_opt.export import exporter
from modelgarden_opt.modeling.state import checkpoints
from modelgarden_opt.tasks import quantized_twin
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import experiment
from modelgarden_opt.training import metrics

_AVERAGED = {'trainer': {'optimizer_config': {'ema': {'average_decay': 0.9}}}}


def _train(tiny_params, mode, path):
  experiment.run_experiment(tiny_params('mobilenet_v2', _AVERAGED, {
      'runtime': {'distribution_strategy': 'one_device'},
      'trainer': {
          'train_steps': 40, 'steps_per_loop': 20, 'summary_interval': 20,
          'checkpoint_interval': 20, 'validation_interval': 20}}), mode, path)
  return path


@pytest.fixture(scope='module')
def averaged_run(tiny_params, tmp_path_factory):
  return _train(tiny_params, 'train_and_eval',
                str(tmp_path_factory.mktemp('ema')))


def _accuracy(run):
  """Returns the accuracy of a loaded model on the validation split."""
  correct = [
      np.argmax(run.predict(images), -1) == labels
      for images, labels in representative.labelled_images(
          run.task, 'validation')]
  return float(np.mean(np.concatenate(correct)))


def _kernel(run):
  return run.model.backbone.layers[1]._conv0.kernel.numpy()


def _of(checkpoint, slot=''):
  """Returns the same kernel, or a slot of it, from a checkpoint."""
  return tf.train.load_checkpoint(checkpoint).get_tensor(
      f'backbone/layer_with_weights-0/_conv0/kernel/{slot}'
      '.ATTRIBUTES/VARIABLE_VALUE')


@pytest.mark.parametrize('name', [
    'best', 'latest', 'ckpt-20', 'ckpt-40', 'best_ckpt',
    'ema_checkpoints/average_weights-20', 'ema_checkpoints'])
def test_every_checkpoint_gives_the_weights_that_were_scored(
    averaged_run, name):
  path = name if name in ('best', 'latest') else (
      os.path.join(averaged_run, name))
  run = run_directory.load(averaged_run, path)
  assert run.weights == 'moving averages'
  step = int(run.checkpoint.rpartition('-')[2])
  scored = {r['step']: r['accuracy'] for r in metrics.read(averaged_run)
            if r['split'] == 'validation'}
  assert _accuracy(run) == pytest.approx(scored[step])
  raw = _of(os.path.join(averaged_run, f'ckpt-{step}'))
  assert not np.allclose(_kernel(run), raw, atol=1e-4)


@pytest.mark.parametrize('name', ['ckpt-40', 'best_ckpt', 'ema_checkpoints'])
def test_a_later_run_starts_from_what_was_scored(
    averaged_run, float_run, name):
  path = os.path.join(averaged_run, name)
  expected = run_directory.load(averaged_run, path)
  later = run_directory.load(float_run)
  checkpoints.load_checkpoint(later.model, path)
  np.testing.assert_array_equal(_kernel(later), _kernel(expected))


def test_without_evaluation_the_averages_are_loaded_too(
    tiny_params, tmp_path):
  path = _train(tiny_params, 'train', str(tmp_path / 'run'))
  for checkpoint in ('best', 'latest'):
    run = run_directory.load(path, checkpoint)
    assert run.weights == 'moving averages'
    np.testing.assert_array_equal(_kernel(run), _of(
        run.checkpoint, '.OPTIMIZER_SLOT/optimizer/average/'))


def test_the_export_says_which_weights_it_has(
    averaged_run, float_run, tmp_path):
  path = str(tmp_path / 'm.tflite')
  for model_dir, weights in ((averaged_run, 'moving averages'),
                             (float_run, 'raw weights')):
    found = exporter.export(model_dir, 'float32', path, checkpoint='latest')
    assert found['weights'] == weights


def test_a_checkpoint_without_averages_gives_its_weights(
    averaged_run, float_run):
  """Of a run that began to average, or of another run."""
  run = run_directory.load(
      averaged_run, tf.train.latest_checkpoint(float_run))
  assert run.weights == 'raw weights'
  np.testing.assert_array_equal(
      _kernel(run), _kernel(run_directory.load(float_run, 'latest')))


def test_a_damaged_list_of_checkpoints_is_told_and_done_without(
    float_run, tmp_path, caplog):
  model_dir = tmp_path / 'run'
  shutil.copytree(float_run, model_dir)
  (model_dir / 'best_ckpt' / 'checkpoint').write_text('')
  run = run_directory.load(str(model_dir))
  assert os.path.basename(run.checkpoint) == os.path.basename(
      tf.train.latest_checkpoint(f'{float_run}/best_ckpt'))
  assert "best_ckpt/checkpoint' is damaged" in caplog.text


def test_a_later_rule_locks_nobody_out_of_a_run(float_run, tmp_path):
  model_dir = tmp_path / 'run'
  shutil.copytree(float_run, model_dir)
  path = model_dir / run_directory.PARAMS
  values = yaml.safe_load(path.read_text())
  values['trainer']['optimizer_config']['warmup'] = {
      'type': 'linear', 'linear': {'warmup_steps': 10**6}}
  path.write_text(yaml.safe_dump(values))
  assert run_directory.load(str(model_dir)).params.task.name


@pytest.fixture
def run_of_earlier_rules(float_run, tmp_path):
  """A run that an earlier version let warm up for longer than it trains."""
  model_dir = tmp_path / 'earlier'
  shutil.copytree(float_run, model_dir)
  params = yaml.safe_load((model_dir / 'params.yaml').read_text())
  params['trainer']['optimizer_config']['warmup'] = {
      'type': 'linear', 'linear': {'warmup_steps': 500}}
  (model_dir / 'params.yaml').write_text(yaml.safe_dump(params))
  return str(model_dir)


def test_a_run_that_a_later_rule_would_refuse_goes_on_and_is_quantized(
    run_of_earlier_rules, tmp_path, capsys):
  config = tmp_path / 'as_before.yaml'
  shutil.copy(os.path.join(run_of_earlier_rules, 'params.yaml'), config)
  flags = ['train', '--experiment=mobilenet_v2', f'--config_file={config}',
           '--mode=eval']
  assert main.main([*flags, f'--model_dir={run_of_earlier_rules}']) == 0
  twin = quantized_twin.of_run(run_directory.load(run_of_earlier_rules))
  assert twin.params.task.quantization is not None
  # Not so a new run, what breaks another rule, and the same one otherwise.
  for further in ([f'--model_dir={tmp_path / "new"}'], [
      f'--model_dir={run_of_earlier_rules}',
      '--params_override=trainer.validation_steps=0'], [
          f'--model_dir={run_of_earlier_rules}',
          '--params_override=trainer.optimizer_config.warmup.linear.'
          'warmup_steps=600']):
    assert main.main([*flags, *further]) == 2
  told = capsys.readouterr().err
  assert told.count('warmup_steps: 500') == told.count('validation_steps') == 1
  assert told.count('warmup_steps: 600') == 1
