"""Pruned training: on schedule, resumed after a kill, seen, exported."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.configs import overrides
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.export import exporter
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import factory
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import experiment
from modelgarden_opt.training import metrics
from tests import conftest

PRUNING = {'begin_step': 10, 'end_step': 85, 'frequency': 30,
           'initial_sparsity': 0.2, 'final_sparsity': 0.6}


@pytest.fixture(scope='module')
def pruned_run(tiny_params, float_run, tmp_path_factory):
  """A pruned run directory of 120 steps that started from `float_run`."""
  model_dir = str(tmp_path_factory.mktemp('pruned'))
  params = tiny_params('mobilenet_v2_pruning', {'task': {'pruning': {
      **PRUNING, 'pretrained_original_checkpoint': float_run}}})
  experiment.run_experiment(params, 'train_and_eval', model_dir)
  return model_dir


def test_final_sparsity_is_reached_exactly_in_the_checkpoint(pruned_run):
  loaded = run_directory.load(pruned_run, 'latest')
  masked = constraints.find(loaded.model)
  assert len(masked) == 8
  for item in masked:
    size = int(np.prod(item.kernel.shape))
    zeros = int(np.sum(item.kernel.numpy() == 0))
    assert abs(zeros - round(0.6 * size)) <= 1, item.path
    assert int(item.transform.step_of_mask) == 85
  assert constraints.problems(masked) == []


def test_a_pruned_checkpoint_is_pruned_further(
    pruned_run, tiny_params, tmp_path, caplog):
  params = tiny_params('mobilenet_v2_pruning', {
      'task': {'pruning': {**PRUNING, 'final_sparsity': 0.8,
                           'pretrained_original_checkpoint': pruned_run}},
      'trainer': {'train_steps': 90}})
  experiment.run_experiment(params, 'train', str(tmp_path))
  masked = constraints.find(run_directory.load(str(tmp_path), 'latest').model)
  assert constraints.sparsity(masked) == pytest.approx(0.8, abs=1e-3)
  assert constraints.problems(masked) == []
  by_step = {r['step']: r['pruning/sparsity'] for r in metrics.read(
      str(tmp_path)) if 'pruning/sparsity' in r}
  assert by_step[10] == pytest.approx(0.2, abs=2e-3)
  assert re.search('with 60... % and not 20.00 %', caplog.text)
  # The same run, resumed: nothing begins afresh.
  params.trainer.train_steps = 95
  experiment.run_experiment(params, 'train', str(tmp_path))
  again = constraints.find(run_directory.load(str(tmp_path), 'latest').model)
  for before, after in zip(masked, again):
    np.testing.assert_array_equal(before.transform.mask, after.transform.mask)
    assert int(after.transform.step_of_mask) == 85


def test_schedule_is_followed_and_written(pruned_run):
  records = [r for r in metrics.read(pruned_run) if 'pruning/sparsity' in r]
  by_step = {r['step']: r for r in records}
  assert {10, 40, 70, 85} <= by_step.keys()
  for step in (10, 40, 70, 85):
    left = 1.0 - (step - 10) / 75
    assert by_step[step]['pruning/sparsity'] == pytest.approx(
        0.6 - 0.4 * left**3, abs=2e-3)
  path = 'backbone/inverted_bottleneck_block_1/conv0'
  assert by_step[85][f'pruning/threshold/{path}'] > 0
  assert by_step[85][f'pruning/churn/{path}'] > 0


def test_event_files_hold_curves_and_histograms(pruned_run):
  found = {}
  for path in tf.io.gfile.glob(os.path.join(pruned_run, 'train', 'events*')):
    for event in tf.compat.v1.train.summary_iterator(path):
      for value in event.summary.value:
        found[value.tag] = value.metadata.plugin_data.plugin_name
  assert found['pruning/sparsity'] == 'scalars'
  assert found['pruning/schedule/dense_0'] == 'scalars'
  assert found['pruning/weights/dense_0'] == 'histograms'


def test_best_checkpoint_is_at_target_sparsity(pruned_run):
  best = run_directory.load(pruned_run, 'best')
  assert int(best.checkpoint.rpartition('-')[2]) >= 85


@pytest.mark.parametrize('file_format', ['float32', 'float16', 'int8'])
def test_planned_sparsity_is_that_of_the_file(
    pruned_run, tmp_path, file_format):
  path = str(tmp_path / 'm.tflite')
  exporter.export(pruned_run, file_format, path, calibration_images=16)
  tensors = inspection.kernels(path)
  pruned = [t for t in tensors if t.sparsity > 0.3]
  assert len(pruned) == 8
  for tensor in pruned:
    # int8 rounds small weights to zero as well.
    assert tensor.sparsity >= 0.6 - 1.0 / tensor.size
    if file_format != 'int8':
      assert tensor.sparsity <= 0.6 + 1.0 / tensor.size


def _arguments(tiny_yaml, float_run, data_dir, model_dir):
  # One file of 15 batches: a run resumed at step 60 sees the same ones.
  shard = f'{data_dir}/digits/train-00000-of-00004.tfrecord'
  override = (
      'task: {pruning: {begin_step: 10, end_step: 85, frequency: 30, '
      'final_sparsity: 0.6, pretrained_original_checkpoint: '
      f'{float_run}}}, model: {{dropout_rate: 0.0}}, train_data: '
      f"{{embedded_name: '', input_path: {shard}, decode_jpeg_only: false, "
      'global_batch_size: 21, shuffle_buffer_size: 1}}\n'
      'trainer: {train_steps: 90, checkpoint_interval: 20, steps_per_loop: 20}')
  return ['train', '--experiment=mobilenet_v2_pruning', '--mode=train',
          f'--config_file={tiny_yaml}', f'--model_dir={model_dir}',
          f'--params_override={override}']


def _process(*commands):
  """Starts a process that runs commands with ops that are deterministic."""
  script = (
      'import sys; import tensorflow as tf; import tf_keras; '
      'from tests import tiny; from modelgarden_opt.cli import main; '
      'tf.config.experimental.enable_op_determinism()\n'
      f'for command in {commands!r}:\n'
      '  tf_keras.utils.set_random_seed(0)\n'
      '  assert main.main(command) == 0\n')
  return subprocess.Popen(
      [sys.executable, '-c', script], cwd=conftest.REPOSITORY,
      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow  # A killed pipeline, in tests/pipeline, prunes too.
def test_a_killed_run_resumes_with_the_same_masks(
    tiny_yaml, float_run, data_dir, tmp_path):
  whole, killed = (_arguments(tiny_yaml, float_run, data_dir, tmp_path / name)
                   for name in ('whole', 'killed'))
  process = _process(killed)
  while process.poll() is None:
    if (tmp_path / 'killed' / 'ckpt-60.index').exists():
      process.send_signal(signal.SIGKILL)
    time.sleep(0.05)
  assert process.returncode == -signal.SIGKILL
  assert _process(whole, killed).wait() == 0
  expected, actual = (
      constraints.find(run_directory.load(str(tmp_path / d), 'latest').model)
      for d in ('whole', 'killed'))
  for a, b in zip(actual, expected, strict=True):
    np.testing.assert_array_equal(
        a.transform.mask, b.transform.mask, err_msg=a.path)
  written, again = (
      [{k: v for k, v in record.items()
        if k == 'step' or k.startswith('pruning/')}
       for record in metrics.read(str(tmp_path / name))]
      for name in ('whole', 'killed'))
  assert written[-1]['step'] == 90 and again == written


def test_zeros_stay_in_moving_averages(tiny_params, float_run, tmp_path):
  params = tiny_params('mobilenet_v2_pruning', {
      'task': {'pruning': {**PRUNING, 'end_step': 10, 'begin_step': 10,
                           'pretrained_original_checkpoint': float_run}},
      'trainer': {'train_steps': 20, 'optimizer_config': {
          'ema': {'average_decay': 0.9}}}})
  experiment.run_experiment(params, 'train', str(tmp_path))
  reader = tf.train.load_checkpoint(
      tf.train.latest_checkpoint(str(tmp_path)))
  averages = [n for n in reader.get_variable_to_shape_map()
              if 'average' in n and 'kernel' in n and 'optimizer' in n]
  assert averages
  shares = [np.mean(reader.get_tensor(n) == 0) for n in averages]
  assert sum(share >= 0.59 for share in shares) == 8


def test_averages_have_the_last_mask_when_they_are_evaluated(
    tiny_params, float_run, tmp_path):
  """The step of the last mask is the first one that may be the best."""
  params = tiny_params('mobilenet_v2_pruning', {
      'task': {'pruning': {**PRUNING, 'begin_step': 5, 'end_step': 10,
                           'frequency': 5,
                           'pretrained_original_checkpoint': float_run}},
      'trainer': {'train_steps': 10, 'steps_per_loop': 10,
                  'validation_interval': 10, 'optimizer_config': {
                      'ema': {'average_decay': 0.99}}}})
  experiment.run_experiment(params, 'train_and_eval', str(tmp_path))
  best = run_directory.load(str(tmp_path), 'best')
  for item in constraints.find(best.model):
    zeros = np.mean(item.kernel.numpy() == 0)
    assert zeros == pytest.approx(0.6, abs=1.5 / item.kernel.numpy().size)


@pytest.mark.parametrize(('block', 'rules', 'expected'), [
    ({}, [], 90),
    ({'pruning_schedule': 'Preserve'}, [], 0),
    ({'pruning_schedule': 'Preserve'},
     [{'path': 'a', 'pruning_schedule': 'PolynomialDecay',
       'end_step': 50}], 50),
    ({}, [{'path': 'a', 'enabled': False, 'end_step': 500}], 90),
    ({'granularity': 'channel'}, [], 0),
])
def test_the_last_step_is_that_of_every_schedule(
    block, rules, expected, tiny_params):
  config = tiny_params('mobilenet_v2_pruning', {'task': {'pruning': {
      'end_step': 90, **block, 'rules': rules}}}).task.pruning
  assert config.last_step() == expected


def test_a_run_that_starts_again_writes_step_0_once(
    tiny_params, float_run, tmp_path):
  """A run that was killed before its first checkpoint leaves rows."""
  (tmp_path / 'metrics.jsonl').write_text('{"step": 0, "split": "train"}\n')
  params = tiny_params('mobilenet_v2_pruning', {
      'task': {'pruning': {**PRUNING, 'begin_step': 0, 'end_step': 0,
                           'pretrained_original_checkpoint': float_run}},
      'trainer': {'train_steps': 2}})
  experiment.run_experiment(params, 'train', str(tmp_path))
  assert [r['step'] for r in metrics.read(str(tmp_path))] == [0, 2]


@pytest.mark.parametrize('steps', [0, 4])
def test_batch_norm_is_estimated_anew_behind_the_last_masks(
    tiny_params, float_run, tmp_path, steps):
  # With momentum 1 training leaves moving averages alone.
  params = tiny_params('mobilenet_v2_pruning', {
      'task': {
          'model': {'norm_activation': {'norm_momentum': 1.0}},
          'pruning': {**PRUNING, 'begin_step': 10, 'end_step': 10,
                      'batch_norm_steps': steps,
                      'pretrained_original_checkpoint': float_run}},
      'trainer': {'train_steps': 20}})
  experiment.run_experiment(params, 'train', str(tmp_path))
  before, after = (
      [v.numpy() for v in run_directory.load(d, 'latest').model.variables
       if 'moving' in v.name] for d in (float_run, str(tmp_path)))
  assert before
  changed = [not np.array_equal(a, b) for a, b in zip(before, after)]
  assert changed == [bool(steps)] * len(before)


@pytest.mark.parametrize(('block', 'expected'), [
    ({'end_step': 5000}, 'would not be reached'),
    ({'begin_step': 90, 'end_step': 80}, 'must be >= begin_step 90'),
    ({'final_sparsity': 1.0}, 'must lie in [0, 1)'),
    ({'frequency': 0}, 'frequency: must be >= 1'),
    ({'policy': 'most'}, 'default, all, pointwise'),
    ({'sparsity_m_by_n': [4, 2]}, '0 < m < n'),
    ({'sparsity_m_by_n': [2, 4], 'final_sparsity': 0.6}, 'is m / n = 0.5'),
    ({'rules': [{'path': '*', 'final_sparsity': -1.0}]},
     'rules[0].final_sparsity'),
    ({'initial_sparsity': 0.9, 'final_sparsity': 0.5},
     'task.pruning.initial_sparsity: must be <= final_sparsity 0.5, received '
     '0.9'),
    ({'initial_sparsity': 0.6},
     'initial_sparsity: must be <= final_sparsity 0.5, received 0.6'),
    ({'initial_sparsity': 0.4,
      'rules': [{'path': 'a'}, {'path': '*', 'final_sparsity': 0.3}]},
     'rules[1].initial_sparsity: must be <= final_sparsity 0.3, received 0.4'),
    ({'sparsity_m_by_n': [2, 4], 'initial_sparsity': 0.7},
     'initial_sparsity: must be <= final_sparsity 0.5'),
    ({'sparsity_m_by_n': [2, 4], 'rules': [{'final_sparsity': 0.75}]},
     'rules[0].final_sparsity: is m / n = 0.5 with sparsity_m_by_n [2, 4], '
     'received 0.75'),
    ({'sparsity_m_by_n': [2]}, 'must have 2 elements, received 1: [2]'),
])
def test_a_block_that_cannot_work_is_refused(tiny_params, block, expected):
  config = tiny_params('mobilenet_v2_pruning', {'task': {'pruning': {
      'end_step': 100, **block}}})
  with pytest.raises(errors.UsageError) as e:
    overrides.finish(config)
  assert expected in str(e.value)


@pytest.mark.parametrize(('block', 'expected'), [
    ({'rules': [{'path': 'head/*', 'enabled': False}]}, 'matches no layer'),
    ({'rules': [{'enabled': False}]}, 'no kernel is pruned'),
    ({'block_size': [1000, 1000]},
     r'block_size: \[1000, 1000\] is too large .*conv2dbn_block_0/conv0 '
     r'\(27 x 16\).* and 2 more; give smaller'),
    ({'block_size': [64, 10], 'rules': [
        {'enabled': False}, {'path': 'dense_0', 'enabled': True,
                             'final_sparsity': 0.8}]},
     r'too large .*: dense_0 \(64 x 10\); give smaller'),
    ({'block_size': [4, 12]},
     r'too large .*: dense_0 \(64 x 10\); give smaller'),
    ({'pruning_schedule': 'PolynomialDecai'}, "did you mean 'PolynomialDecay'"),
])
def test_a_block_that_fits_no_kernel_is_refused(tiny_params, block, expected):
  config = tiny_params('mobilenet_v2_pruning', {'task': {'pruning': {
      'end_step': 100, **block}}})
  with pytest.raises(errors.UsageError, match=expected):
    task_factory.get_task(config.task).build_model()


def test_a_sparsity_that_blocks_meet_roughly_is_said(tiny_params, caplog):
  config = tiny_params('mobilenet_v2_pruning', {'task': {'pruning': {
      'block_size': [20, 10], 'final_sparsity': 0.7,
      'rules': [{'enabled': False}, {'path': 'dense_0', 'enabled': True}]}}})
  task_factory.get_task(config.task).build_model()
  assert ('dense_0 (64 x 10) has 640 weights in blocks of 200, so that its '
          'sparsity is met to 16 % only (planned 70.0 %, met about 68.8 %)'
          ) in caplog.text


class _Own(tf_keras.layers.Layer):
  """A layer of a user's own that names its prunable weights."""

  def build(self, input_shape):
    self.table = self.add_weight('table', [input_shape[-1], 6])
    self.scale = self.add_weight('scale', [6])
    self.inner = tf_keras.layers.Dense(6)
    super().build(input_shape)

  def get_prunable_weights(self):
    return [self.table]

  def call(self, inputs):
    return inputs @ self.table * self.scale


def test_get_prunable_weights_is_honoured(tiny_params):
  inputs = tf_keras.Input([4, 4, 3])
  x = tf_keras.layers.Conv2D(8, 3)(inputs)
  model = tf_keras.Model(inputs, _Own(name='own')(x))
  config = tiny_params('mobilenet_v2_pruning').task.pruning
  pruned = factory.compress(model, config)
  masked = constraints.find(pruned)
  assert [item.path for item in masked] == ['conv2d_0', 'own/0']
  constraints.update(masked, 1000)
  own = next(layer for layer in pruned.layers if layer.name == 'own')
  assert np.sum(own.table.numpy() == 0) == 24
  assert not np.any(own.scale.numpy() == 0)
