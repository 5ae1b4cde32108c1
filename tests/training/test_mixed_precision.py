"""Pruning, clustering and re-estimation under bfloat16 and float16.

State of a technique stays in float32, like the kernels that it belongs to.
"""

import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.configs import overrides
from modelgarden_opt.export import exporter
from modelgarden_opt.training import experiment

BLOCKS = {
    'mobilenet_v2_pruning': {'pruning': {
        'begin_step': 2, 'end_step': 6, 'frequency': 2, 'batch_norm_steps': 8,
        'final_sparsity': 0.3}},
    'mobilenet_v2_clustering': {'clustering': {'number_of_clusters': 8}},
}


# Every technique and every type once.
@pytest.mark.parametrize(('name', 'dtype'), [
    ('mobilenet_v2_pruning', 'bfloat16'),
    ('mobilenet_v2_clustering', 'float16')])
def test_techniques_train_and_export_under_mixed_precision(
    name, dtype, tiny_params, float_run, tmp_path):
  block, = BLOCKS[name]
  params = tiny_params(
      name, {'task': BLOCKS[name]}, {
          'runtime': {'mixed_precision_dtype': dtype},
          'task': {
              block: {'pretrained_original_checkpoint': float_run},
              'train_data': {'dtype': dtype},
              'validation_data': {'dtype': dtype}},
          'trainer': {'train_steps': 8, 'steps_per_loop': 4,
                      'checkpoint_interval': 8, 'validation_interval': 8}})
  logs = experiment.run_experiment(params, 'train_and_eval', str(tmp_path))
  assert logs['accuracy'] > 0.6
  reader = tf.train.load_checkpoint(
      tf.train.latest_checkpoint(str(tmp_path)))
  types = reader.get_variable_to_dtype_map()
  state = [name for name in types if 'kernel/' in name or f'{block}_' in name]
  assert state
  assert {types[n] for n in state} <= {tf.float32, tf.int32, tf.int64}
  found = exporter.export(str(tmp_path), 'float32', str(tmp_path / 'm.tflite'))
  assert found['agreement'] >= 0.95


def test_quantization_under_mixed_precision_is_refused(tiny_params):
  config = tiny_params(
      'mobilenet_v2_qat', {'runtime': {'mixed_precision_dtype': 'bfloat16'}})
  with pytest.raises(errors.UsageError, match='runtime.mixed_precision_dtype'):
    overrides.finish(config)
