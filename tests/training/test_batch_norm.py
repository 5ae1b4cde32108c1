"""Batch-norm statistics of short runs: a warning, or an estimate at the end."""

import logging

import numpy as np
import pytest
import tf_keras

from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import batch_norm_action
from modelgarden_opt.training import experiment

_LAGGING = {'task': {'model': {'norm_activation': {'norm_momentum': 0.997}}},
            'trainer': {'train_steps': 60, 'steps_per_loop': 30,
                        'checkpoint_interval': 60, 'validation_interval': 60}}
_ESTIMATE = {'task': {'batch_norm_steps': 8}}


def _accuracy(tiny_params, model_dir, *further):
  params = tiny_params('mobilenet_v2', _LAGGING, *further)
  logs = experiment.run_experiment(params, 'train_and_eval', model_dir)
  return logs['accuracy']


@pytest.fixture(scope='module')
def estimated(tiny_params, tmp_path_factory):
  """A run with an estimate at its end, and its accuracy."""
  model_dir = str(tmp_path_factory.mktemp('estimated'))
  return model_dir, _accuracy(tiny_params, model_dir, _ESTIMATE)


def test_a_short_run_evaluates_well_with_statistics_of_its_end(
    tiny_params, estimated, tmp_path, capsys):
  """With momentum 0.997 five sixths of the initial statistics are left."""
  before, after = _accuracy(tiny_params, str(tmp_path)), estimated[1]
  assert 'np.float32' not in capsys.readouterr().out
  assert before < 0.3 and after > 0.6, (before, after)


def test_moving_averages_are_estimated_for_what_is_evaluated(
    tiny_params, tmp_path):
  ema = {'trainer': {'optimizer_config': {'ema': {'average_decay': 0.9}}}}
  after = _accuracy(tiny_params, str(tmp_path), ema, _ESTIMATE)
  assert after > 0.6


def test_a_resumed_run_does_not_estimate_again(tiny_params, estimated):
  model_dir, _ = estimated
  before = run_directory.load(model_dir, 'latest').model
  params = tiny_params('mobilenet_v2', _LAGGING, _ESTIMATE)
  experiment.run_experiment(params, 'train_and_eval', model_dir)
  after = run_directory.load(model_dir, 'latest').model
  for a, b in zip(before.variables, after.variables):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(('momentum', 'further', 'pretrained', 'warned'), [
    (0.997, {}, False, True),
    (0.997, {}, True, False),
    (0.997, {'task': {'batch_norm_steps': 4}}, False, False),
    (0.9, {}, False, False),
])
def test_a_momentum_that_is_too_slow_is_named(
    momentum, further, pretrained, warned, tiny_params, caplog):
  params = tiny_params('mobilenet_v2', {'task': {'model': {
      'norm_activation': {'norm_momentum': momentum}}}}, further)
  with caplog.at_level(logging.WARNING, 'absl'):
    batch_norm_action.warn_of_momentum(params, pretrained, tf_keras.Model())
  assert ('norm_activation.norm_momentum: with 0.997, 70 %' in caplog.text) == (
      warned)
