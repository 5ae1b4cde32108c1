"""Runs resume, freeze, keep the best, and write what they promise."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from unittest import mock

import numpy as np
from official.vision.tasks import image_classification
import pytest
import tensorflow as tf
import yaml

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.export import exporter
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import best_checkpoint
from modelgarden_opt.training import experiment
from modelgarden_opt.training import metrics
from modelgarden_opt.training import runner as runner_lib
from tests import conftest


def _events(directory):
  """Returns `{tag: [(step, value)]}` of the event files in a directory."""
  found = {}
  for path in tf.io.gfile.glob(os.path.join(directory, 'events*')):
    for record in tf.data.TFRecordDataset(path):
      event = tf.compat.v1.Event.FromString(record.numpy())
      for value in event.summary.value:
        found.setdefault(value.tag, []).append(
            (event.step, float(tf.make_ndarray(value.tensor))))
  return found


def test_a_run_writes_params_checkpoints_events_and_metrics(float_run):
  names = set(os.listdir(float_run))
  assert {'params.yaml', 'metrics.jsonl', 'checkpoint', 'train', 'validation',
          'best_ckpt'} <= names
  records = metrics.read(float_run)
  assert all(isinstance(v, (int, float, str)) for v in records[0].values())
  assert [(r['step'], r['split']) for r in records] == [
      (60, 'train'), (60, 'validation'), (120, 'train'), (120, 'validation')]
  assert {'accuracy', 'training_loss', 'learning_rate', 'steps_per_second'} <= (
      records[0].keys())
  events = _events(os.path.join(float_run, 'validation'))
  assert events['accuracy'] == [
      (r['step'], pytest.approx(r['accuracy']))
      for r in records if r['split'] == 'validation']


def test_a_training_step_is_traced_once(tiny_params, tmp_path):
  """A function that makes variables would be traced twice."""
  take, traces = image_classification.ImageClassificationTask.train_step, []

  def count(self, *args, **kwargs):
    traces.append(self)
    return take(self, *args, **kwargs)

  with mock.patch.object(
      image_classification.ImageClassificationTask, 'train_step', count):
    experiment.run_experiment(tiny_params('mobilenet_v2', {'trainer': {
        'train_steps': 4, 'steps_per_loop': 2, 'checkpoint_interval': 4}}),
                              'train', str(tmp_path))
  assert len(traces) == 1


def test_quantized_training_starts_from_the_float_weights(qat_run, float_run):
  expected = run_directory.load(float_run, 'latest').model
  actual = run_directory.load(qat_run, 'latest').model
  kernel = lambda m: m.backbone.layers[1]._conv0.kernel.numpy()  # noqa: E731
  correlation = np.corrcoef(kernel(expected).ravel(), kernel(actual).ravel())
  assert correlation[0, 1] > 0.9


def test_an_interrupted_run_resumes_where_its_checkpoint_is(
    tiny_params, tmp_path):
  model_dir = str(tmp_path)
  first = tiny_params('mobilenet_v2', {'trainer': {'train_steps': 60}})
  experiment.run_experiment(first, 'train', model_dir)
  # What a killed run leaves after its checkpoint: lines, one of them torn.
  with open(os.path.join(model_dir, 'metrics.jsonl'), 'a') as f:
    f.write('{"step": 90, "split": "train"}\n{"step": 1')
  experiment.run_experiment(tiny_params('mobilenet_v2'), 'train', model_dir)
  assert [r['step'] for r in metrics.read(model_dir)] == [60, 120]
  assert run_directory.load(model_dir, 'latest').checkpoint.endswith('ckpt-120')


def test_a_killed_process_resumes(tiny_yaml, tmp_path):
  script = ('import sys; from tests import tiny; '
            'from modelgarden_opt.cli import main; sys.exit(main.main())')
  command = [
      sys.executable, '-c', script, 'train',
      '--experiment=mobilenet_v2', f'--config_file={tiny_yaml}',
      '--mode=train', f'--model_dir={tmp_path}',
      '--params_override=trainer.train_steps=100000']
  process = subprocess.Popen(command, cwd=conftest.REPOSITORY,
                             stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
  deadline = time.monotonic() + 120
  while tf.train.latest_checkpoint(str(tmp_path)) is None:
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.2)
  process.send_signal(signal.SIGKILL)
  process.wait()
  step = int(tf.train.latest_checkpoint(str(tmp_path)).rpartition('-')[2])
  assert main.main([
      *command[3:-1],
      f'--params_override=trainer.train_steps={step + 60}']) == 0
  steps = [r['step'] for r in metrics.read(str(tmp_path))]
  assert steps == sorted(set(steps))
  assert steps[-1] == step + 60


def test_resuming_with_another_model_is_refused(tiny_params, float_run):
  before = sorted(os.listdir(float_run))
  other = tiny_params('mobilenet_v2', {'task': {'model': {'backbone': {
      'mobilenet': {'filter_size_scale': 0.5}}}}})
  with pytest.raises(errors.UsageError,
                     match='filter_size_scale was 1.0, is 0.5'):
    experiment.run_experiment(other, 'train', float_run)
  assert sorted(os.listdir(float_run)) == before


@pytest.fixture
def older_run(qat_run, tmp_path):
  """Returns `make(**changes of task.quantization)` of a copy of a run."""

  def make(name='mobilenet_v2_qat', **changes):
    model_dir = tmp_path / 'older'
    shutil.copytree(qat_run, model_dir)
    params = yaml.safe_load((model_dir / 'params.yaml').read_text())
    params['task']['name'] = name
    block = params['task']['quantization']
    for field, value in changes.items():
      if value is None:
        del block[field]
      else:
        block[field] = value
    del params['task']['model']['backbone']['mobilenet']['filter_size_scale']
    (model_dir / 'params.yaml').write_text(yaml.safe_dump(params))
    return str(model_dir)

  return make


@pytest.mark.parametrize('name', ['mobilenet_v2_qat', 'renamed', None])
def test_a_run_of_before_a_field_was_new_resumes(name, tiny_params, older_run):
  model_dir = older_run(name, range_momentum=None, weight_granularity=None)
  experiment.run_experiment(tiny_params('mobilenet_v2_qat'), 'train', model_dir)
  assert run_directory.load_yaml(model_dir)['task']['quantization'][
      'range_momentum'] == 0.99


def test_a_field_that_is_new_must_have_its_default(tiny_params, older_run):
  model_dir = older_run(range_momentum=None)
  params = tiny_params('mobilenet_v2_qat', {'task': {'quantization': {
      'range_momentum': 0.5}}})
  with pytest.raises(errors.UsageError,
                     match='range_momentum was 0.99, is 0.5'):
    experiment.run_experiment(params, 'train', model_dir)


def test_a_block_that_is_new_is_no_default(tiny_params, float_run):
  with pytest.raises(errors.UsageError, match='task.quantization was None'):
    experiment.run_experiment(
        tiny_params('mobilenet_v2_qat'), 'train', float_run)


@pytest.mark.parametrize('mode', ['train', 'train_and_eval'])
def test_a_wrong_checkpoint_leaves_nothing_behind(tiny_params, tmp_path, mode):
  params = tiny_params('mobilenet_v2_qat', {'task': {'quantization': {
      'pretrained_original_checkpoint': str(tmp_path / 'nowhere/ckpt')}}})
  model_dir = tmp_path / 'run'
  with pytest.raises(errors.UsageError,
                     match='quantization.pretrained_original_checkpoint'):
    experiment.run_experiment(params, mode, str(model_dir))
  assert not model_dir.exists()


def test_evaluating_an_empty_directory_is_refused(tiny_params, tmp_path):
  with pytest.raises(errors.UsageError, match='no checkpoint to evaluate'):
    experiment.run_experiment(
        tiny_params('mobilenet_v2'), 'eval', str(tmp_path / 'x'))
  assert not (tmp_path / 'x').exists()


@pytest.fixture
def float_copy(float_run, tmp_path):
  """A run that may be written to."""
  return shutil.copytree(float_run, str(tmp_path / 'run'))


def test_mode_eval_gives_the_metrics_of_training(tiny_params, float_copy):
  expected = [r for r in metrics.read(float_copy)
              if r['split'] == 'validation']
  logs = experiment.run_experiment(
      tiny_params('mobilenet_v2'), 'eval', float_copy)
  assert logs['accuracy'] == pytest.approx(expected[-1]['accuracy'])


def test_continuous_eval_ends_with_the_run(tiny_params, float_copy):
  params = tiny_params(
      'mobilenet_v2', {'trainer': {'continuous_eval_timeout': 1}})
  logs = experiment.run_experiment(params, 'continuous_eval', float_copy)
  assert 'accuracy' in logs


def test_ranges_and_statistics_freeze_at_their_step(
    tiny_params, float_run, tmp_path, monkeypatch):
  seen = {}
  original = runner_lib.progress_action.ProgressAction.__call__

  def record(self, output):
    seen[int(self._global_step.numpy())] = {
        v.name: v.numpy() for v in holder['runner'].trainer.model.variables}
    original(self, output)

  holder = {}
  build = runner_lib.Runner.run

  def run(self):
    holder['runner'] = self
    return build(self)

  monkeypatch.setattr(
      runner_lib.progress_action.ProgressAction, '__call__', record)
  monkeypatch.setattr(runner_lib.Runner, 'run', run)
  params = tiny_params('mobilenet_v2_qat', {'task': {'quantization': {
      'pretrained_original_checkpoint': float_run, 'calibration_steps': 2,
      'freeze_ranges_step': 10, 'freeze_batch_norm_step': 15}}})
  experiment.run_experiment(params, 'train', str(tmp_path))
  assert sorted(seen) == [10, 15, 60, 120], 'loops end where something freezes'

  def changed(word, a, b):
    return [n for n in seen[a] if word in n and
            not np.array_equal(seen[a][n], seen[b][n])]

  assert not changed('quantized_', 10, 120)
  assert changed('moving_mean', 10, 15)
  assert not changed('moving_', 15, 120)
  assert changed('gamma', 15, 120) and changed('kernel', 15, 120)


def test_folded_and_frozen_kernels_have_one_scale_after_training(
    tiny_params, float_run, tmp_path):
  params = tiny_params('mobilenet_v2_qat', {
      'task': {'quantization': {
          'pretrained_original_checkpoint': float_run, 'calibration_steps': 2,
          'weight_granularity': 'per_tensor', 'fold_batch_norm': True,
          'freeze_batch_norm_step': 0}},
      'trainer': {'train_steps': 20, 'checkpoint_interval': 20,
                  'validation_interval': 20, 'steps_per_loop': 10}})
  experiment.run_experiment(params, 'train', str(tmp_path))
  file = str(tmp_path / 'm.tflite')
  exporter.export(str(tmp_path), 'int8', file)
  assert {kernel.num_scales for kernel in inspection.kernels(file)} == {1}
  first, last = (tf.train.load_checkpoint(path) for path in (
      tf.train.latest_checkpoint(float_run), str(tmp_path / 'ckpt-20')))
  kernel = ('backbone/layer_with_weights-1/_conv1/depthwise_kernel/'
            '.ATTRIBUTES/VARIABLE_VALUE')
  ratio = last.get_tensor(kernel) / first.get_tensor(kernel)
  assert np.ptp(ratio, axis=(0, 1)).max() > 0.01, 'kernels are trained'


def test_frozen_stays_frozen_after_a_resume(tiny_params, float_run, tmp_path):
  quantization = {
      'pretrained_original_checkpoint': float_run, 'calibration_steps': 2,
      'freeze_ranges_step': 10, 'freeze_batch_norm_step': 10}
  for steps in (60, 90):
    params = tiny_params('mobilenet_v2_qat', {
        'task': {'quantization': quantization},
        'trainer': {'train_steps': steps}})
    experiment.run_experiment(params, 'train', str(tmp_path))
  reader = lambda step: tf.train.load_checkpoint(  # noqa: E731
      str(tmp_path / f'ckpt-{step}'))
  first, last = reader(60), reader(90)
  frozen = [k for k in first.get_variable_to_shape_map()
            if ('quantized_' in k or 'moving_' in k) and 'optimizer' not in k
            and k.endswith('VARIABLE_VALUE')]
  assert frozen
  for key in frozen:
    np.testing.assert_array_equal(first.get_tensor(key), last.get_tensor(key))


def test_the_best_checkpoint_is_saved_before_its_record(tmp_path):
  variable = tf.Variable(1.0)
  checkpoint = tf.train.Checkpoint(v=variable)
  exporter = best_checkpoint.BestCheckpointExporter(
      str(tmp_path / 'best'), 'accuracy', 'higher')
  assert not (tmp_path / 'best').exists()
  results = []
  for step, accuracy in ((1, 0.5), (2, 0.4), (3, 0.5), (4, 0.9), (5, 0.8)):
    variable.assign(float(step))
    results.append(exporter.maybe_export_checkpoint(
        checkpoint, {'accuracy': accuracy}, step))
  assert results == [True, False, True, True, False]
  info = json.loads((tmp_path / 'best' / 'info.json').read_text())
  assert info == {'accuracy': 0.9, 'best_ckpt_global_step': 4.0}
  again = best_checkpoint.BestCheckpointExporter(
      str(tmp_path / 'best'), 'accuracy', 'higher')
  assert not again.maybe_export_checkpoint(checkpoint, {'accuracy': 0.85}, 6)
  path = tf.train.latest_checkpoint(str(tmp_path / 'best'))
  assert tf.train.load_checkpoint(path).get_tensor(
      'v/.ATTRIBUTES/VARIABLE_VALUE') == 4.0


@pytest.mark.parametrize(('comp', 'better', 'worse'), [
    ('higher', 0.6, 0.4), ('lower', 0.4, 0.6)])
def test_not_a_number_is_never_the_best(tmp_path, comp, better, worse):
  checkpoint = tf.train.Checkpoint(v=tf.Variable(1.0))
  exporter = best_checkpoint.BestCheckpointExporter(
      str(tmp_path / 'best'), 'accuracy', comp)
  results = [
      exporter.maybe_export_checkpoint(checkpoint, {'accuracy': value}, step)
      for step, value in enumerate(
          [float('nan'), 0.5, float('nan'), worse, better])]
  assert results == [False, True, False, False, True]
  info = json.loads((tmp_path / 'best' / 'info.json').read_text())
  assert info == {'accuracy': better, 'best_ckpt_global_step': 4.0}


def test_of_several_workers_one_writes(tmp_path):
  step = tf.Variable(3, dtype=tf.int64)
  for enabled in (False, True):
    manager = metrics.JsonlSummaryManager(
        str(tmp_path), 'train', 'train', step, enabled)
    manager.write_summaries({'loss': 0.5})
    manager.flush()
    assert bool(os.listdir(tmp_path)) == enabled
  assert [r['loss'] for r in metrics.read(str(tmp_path))] == [0.5]
