"""Pruning, clustering and re-estimation under bfloat16 and float16.

State of a technique stays in float32, like the kernels that it belongs to.
"""

import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.configs import overrides
from modelgarden_opt.export import exporter
from modelgarden_opt.training import experiment
from modelgarden_opt.training import metrics

BLOCKS = {
    'mobilenet_v2_pruning': {'pruning': {
        'begin_step': 2, 'end_step': 6, 'frequency': 2, 'batch_norm_steps': 8,
        'final_sparsity': 0.3}},
    'mobilenet_v2_clustering': {'clustering': {'number_of_clusters': 8}},
}
CHANNELS = {'pruning': {
    'granularity': 'channel', 'keep_ratio': 0.7, 'batch_norm_steps': 4}}


# Every technique and every type once.
@pytest.mark.parametrize(('name', 'blocks', 'dtype'), [
    ('mobilenet_v2_pruning', BLOCKS['mobilenet_v2_pruning'], 'bfloat16'),
    ('mobilenet_v2_pruning', CHANNELS, 'float16'),
    pytest.param(
        'mobilenet_v2_clustering', BLOCKS['mobilenet_v2_clustering'], 'float16',
        marks=pytest.mark.slow)])
def test_techniques_train_and_export_under_mixed_precision(
    name, blocks, dtype, tiny_params, float_run, tmp_path):
  block, = blocks
  params = tiny_params(
      name, {'task': blocks}, {
          'runtime': {'mixed_precision_dtype': dtype},
          'task': {
              block: {'pretrained_original_checkpoint': float_run},
              'train_data': {'dtype': dtype},
              'validation_data': {'dtype': dtype}},
          'trainer': {'train_steps': 8, 'steps_per_loop': 4,
                      'checkpoint_interval': 8, 'validation_interval': 8}})
  logs = experiment.run_experiment(params, 'train_and_eval', str(tmp_path))
  assert logs['accuracy'] > 0.5
  reader = tf.train.load_checkpoint(
      tf.train.latest_checkpoint(str(tmp_path)))
  types = reader.get_variable_to_dtype_map()
  state = [name for name in types if 'kernel/' in name or f'{block}_' in name]
  assert state
  assert {types[n] for n in state} <= {tf.float32, tf.int32, tf.int64}
  found = exporter.export(str(tmp_path), 'float32', str(tmp_path / 'm.tflite'))
  assert found['agreement'] >= 0.95


@pytest.mark.parametrize('strategy', ['off', 'mirrored'])
def test_a_resumed_float16_run_keeps_its_loss_scale(
    strategy, tiny_params, tmp_path):

  def run(directory, steps):
    params = tiny_params('mobilenet_v2', {
        'runtime': {'mixed_precision_dtype': 'float16',
                    'loss_scale': 'dynamic',
                    'distribution_strategy': strategy,
                    'num_logical_cpus': 1 if strategy == 'off' else 2},
        'task': {'model': {'backbone': {'mobilenet': {'model_id': 'Tiniest'}}},
                 'train_data': {'dtype': 'float16'},
                 'validation_data': {'dtype': 'float16'}},
        'trainer': {'train_steps': steps, 'steps_per_loop': 4,
                    'checkpoint_interval': 4}})
    experiment.run_experiment(params, 'train', str(tmp_path / directory))
    reader = tf.train.load_checkpoint(str(tmp_path / directory))
    return {name: reader.get_tensor(f'optimizer/{name}/.ATTRIBUTES/'
                                    'VARIABLE_VALUE').item()
            for name in ('loss_scale/current_loss_scale',
                         'loss_scale/good_steps')}

  undisturbed = run('whole', 8)
  assert undisturbed['loss_scale/good_steps'] > 4  # Else nothing to lose.
  before = run('stopped', 4)
  assert before != undisturbed
  assert run('stopped', 8) == undisturbed


def test_moving_averages_in_float16_are_refused(tiny_params):
  config = tiny_params('mobilenet_v2', {
      'runtime': {'mixed_precision_dtype': 'float16'}, 'trainer': {
          'optimizer_config': {'ema': {'average_decay': 0.9}}}})
  with pytest.raises(errors.UsageError, match='mixed_precision_dtype'):
    overrides.finish(config)


def test_bfloat16_does_not_hold_what_eight_bits_hold():
  """Why quantization-aware training is refused in it."""
  levels = tf.range(256, dtype=tf.float32)
  moved = []
  for scale in tf.random.stateless_uniform([100], (1, 2), 0.01, 0.1):
    kept = tf.cast(tf.cast(levels * scale, tf.bfloat16), tf.float32) / scale
    moved.append(tf.reduce_max(tf.abs(kept - levels)))
  # A step of the integer grid is 1; half a step is all the rounding there is.
  assert 0.5 < tf.reduce_mean(moved) < 1.0


def test_quantization_under_mixed_precision_is_refused(tiny_params):
  config = tiny_params(
      'mobilenet_v2_qat', {'runtime': {'mixed_precision_dtype': 'bfloat16'}})
  with pytest.raises(errors.UsageError, match='runtime.mixed_precision_dtype'):
    overrides.finish(config)


@pytest.mark.slow
def test_xla_compiles_the_step_of_a_pruned_run(tiny_params, tmp_path):
  """The same losses and zeros; not the same sums of floats."""
  params, found = BLOCKS['mobilenet_v2_pruning'], []
  for compiled in (False, True):
    directory = str(tmp_path / str(compiled))
    experiment.run_experiment(tiny_params('mobilenet_v2_pruning', {
        'runtime': {'enable_xla': compiled}, 'task': {**params, 'model': {
            'dropout_rate': 0.0,
            'backbone': {'mobilenet': {'model_id': 'Tiniest'}}}},
        'trainer': {'train_steps': 8, 'steps_per_loop': 4,
                    'checkpoint_interval': 8}}), 'train', directory)
    found.append((metrics.read(directory)[-1]['training_loss'], {
        kernel['path']: kernel['sparsity'] for kernel in exporter.export(
            directory, 'float32', f'{directory}/m.tflite')['kernels']
        if 'path' in kernel}))
  assert found[1][0] == pytest.approx(found[0][0], rel=1e-3)
  assert found[1][1] == found[0][1]


def test_xla_of_several_replicas_is_refused(tiny_params):
  config = tiny_params('mobilenet_v2', {'runtime': {
      'enable_xla': True, 'num_logical_cpus': 2,
      'distribution_strategy': 'mirrored'}})
  with pytest.raises(errors.UsageError, match='runtime.enable_xla'):
    overrides.finish(config)
