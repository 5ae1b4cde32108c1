"""A step in parts is the step of the whole batch."""

import numpy as np
import pytest
import tf_keras
import yaml

from modelgarden_opt import errors
from modelgarden_opt.configs import overrides
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import experiment
from tests.training import equivalence

TWO = {'distribution_strategy': 'mirrored', 'num_logical_cpus': 2}
_MODEL = {'num_classes': 10, 'input_size': [32, 32, 3], 'dropout_rate': 0.0,
          'backbone': {'type': 'keras', 'keras': {
              'builder': 'tests.tasks.test_accumulation:without_norms'}}}


def without_norms():
  """A network that computes every image by itself."""
  image = tf_keras.Input([32, 32, 3])
  x = tf_keras.layers.Conv2D(8, 3, 4, 'same', activation='relu')(image)
  x = tf_keras.layers.Conv2D(8, 3, 2, 'same', activation='relu')(x)
  x = tf_keras.layers.GlobalAveragePooling2D()(x)
  return tf_keras.Model(image, tf_keras.layers.Dense(10)(x))


@pytest.fixture(scope='module')
def trained(data_dir, tmp_path_factory):
  """Returns `train(parts, runtime, **blocks)`: variables after four steps."""

  def train(parts, runtime=None, steps=4, **blocks):
    model_dir = str(tmp_path_factory.mktemp('run'))
    params = overrides.base('_'.join(['keras', *(
        ['pruning'] if 'pruning' in blocks else [])]))
    values = run_directory.as_plain(equivalence.make_params(
        data_dir, 'float', None, {}, steps))
    for override in (
        {'task': {'train_data': values['task']['train_data'],
                  'validation_data': values['task']['validation_data'],
                  'model': _MODEL}},
        {'trainer': values['trainer']}, {'task': blocks},
        {'runtime': {**(runtime or {'distribution_strategy': 'off'}),
                     'gradient_accumulation_steps': parts}}):
      params.override(override)
    logs = experiment.run_experiment(params, 'train_and_eval', model_dir)
    return equivalence.variables(model_dir, steps), logs

  return train


def _largest_distance(a, b):
  return max(equivalence.distance(a[name], value) for name, value in b.items()
             if value.dtype == np.float32)


def test_parts_are_the_large_batch(trained):
  """Four steps of a quarter of the batch end elsewhere, and so does one part
  of every four.
  """
  whole, logs = trained(1)
  parts, logs_of_parts = trained(4)
  on_two, _ = trained(2, TWO)
  assert whole.keys() == parts.keys()
  assert _largest_distance(parts, whole) < 1e-5
  assert _largest_distance(on_two, whole) < 1e-5
  assert logs_of_parts['validation_loss'] == pytest.approx(
      logs['validation_loss'], rel=1e-5)
  start, _ = trained(1, steps=2)
  assert _largest_distance(start, whole) > 1e-3


def test_masks_hold_after_a_step_in_parts(trained):
  pruning = {'pruning_schedule': 'ConstantSparsity', 'begin_step': 0,
             'end_step': 0, 'final_sparsity': 0.5, 'frequency': 1}
  whole, _ = trained(1, pruning=pruning)
  parts, _ = trained(2, pruning=pruning)
  masks = [name for name in whole if 'pruning_mask' in name]
  assert masks
  for name in masks:
    np.testing.assert_array_equal(parts[name], whole[name])
  assert _largest_distance(parts, whole) < 1e-5


@pytest.mark.parametrize(('runtime', 'expected'), [
    ({'gradient_accumulation_steps': 2, 'mixed_precision_dtype': 'float16'},
     'must be 1 with mixed_precision_dtype: float16'),
    ({'gradient_accumulation_steps': 0}, 'gradient_accumulation_steps'),
])
def test_what_cannot_be_accumulated_is_refused(runtime, expected):
  with pytest.raises(errors.UsageError, match=expected):
    overrides.resolve('mobilenet_v2', params_override=yaml.safe_dump(
        {'runtime': runtime}))


def test_parts_that_do_not_divide_the_batch_are_refused(trained):
  with pytest.raises(errors.UsageError, match=(
      r'must be a multiple of 3 \(1 replica of 3 parts\), received 32; '
      'nearest: 30 or 33')):
    trained(3)


