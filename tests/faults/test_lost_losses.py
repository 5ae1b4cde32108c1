"""A loss that is not a number: told with step and layer, stopped or undone."""

import os

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt.cli import main
from modelgarden_opt.tasks import image_classification
from modelgarden_opt.training import metrics
from tests.faults import cases

_TWO = {'distribution_strategy': 'mirrored', 'num_logical_cpus': 2}


@pytest.fixture
def poisoned(monkeypatch):
  """Makes images of step 14 not-a-number, if it takes the data in order."""

  def augment(self, dataset, params, first_batch, input_context=None):
    step = 13 * (input_context.num_replicas_in_sync if input_context else 1)

    def poison(index, batch):
      images, labels = batch
      factor = tf.where(index + first_batch == step, np.nan, 1.0)
      return images * tf.cast(factor, images.dtype), labels

    return dataset.enumerate().map(poison)

  monkeypatch.setattr(
      image_classification.ImageClassificationTask, 'augment', augment)


@pytest.fixture
def train(data_dir, tmp_path):
  """Returns `run(**overrides)`: the exit code of a small training."""

  def run(name='mnist_cnn', **overrides):
    config = cases.write(
        tmp_path / 'c.yaml', cases.training(data_dir, **overrides))
    return main.main([
        'train', f'--experiment={name}', f'--config_file={config}',
        f'--model_dir={tmp_path / "run"}'])

  return run


@pytest.mark.parametrize('runtime', [
    {}, pytest.param(_TWO, marks=pytest.mark.slow)], ids=['one', 'two'])
def test_a_run_stops_with_step_and_layer(
    runtime, poisoned, train, tmp_path, capsys):
  assert train(runtime=runtime) == 1
  message = capsys.readouterr().err
  assert 'the loss of step 14 is not a finite number' in message
  assert "output that is not finite is that of 'backbone/conv2d_0'" in message
  assert 'learning rate 0.003' in message and 'Traceback' not in message
  run = tmp_path / 'run'
  assert f"the last good checkpoint is '{run}/ckpt-8'" in message
  assert tf.train.latest_checkpoint(str(run)) == f'{run}/ckpt-8'
  assert [r['step'] for r in metrics.read(str(run))] == [4, 8, 8, 12]


@pytest.mark.parametrize('runtime', [{}, _TWO], ids=['one', 'two'])
def test_a_run_goes_back_and_on(runtime, poisoned, train, tmp_path, caplog):
  assert train('mnist_cnn_pruning', runtime=runtime, trainer={
      'on_nan': 'rollback'}, task={'pruning': {
          'begin_step': 4, 'end_step': 20, 'frequency': 4,
          'final_sparsity': 0.5}}) == 0
  assert 'Training goes on from step 8 (ckpt-8)' in caplog.text
  assert 'max_rollbacks, 2 are left' in caplog.text
  found = [(r['step'], r['split']) for r in metrics.read(str(tmp_path / 'run'))
           if 'training_loss' in r or r['split'] == 'validation']
  assert found == [
      (4, 'train'), (8, 'train'), (8, 'validation'), (12, 'train'),
      (16, 'train'), (16, 'validation'), (20, 'train'), (24, 'train'),
      (24, 'validation')]


def test_a_rate_that_is_too_high_is_told(train, tmp_path, capsys):
  assert train(trainer={
      'on_nan': 'rollback', 'max_rollbacks': 1, 'checkpoint_interval': 4,
      'optimizer_config': {'learning_rate': {
          'constant': {'learning_rate': 1e36}}}}) == 1
  message = capsys.readouterr().err
  assert 'the loss of step 2 is not a finite number' in message or (
      'the loss of step 3 is not a finite number' in message), message
  assert 'there is no checkpoint yet; lower the learning rate' in message
  assert not [name for name in os.listdir(tmp_path / 'run')
              if name.startswith('ckpt')]


def test_weights_that_are_lost_are_not_saved(train, tmp_path, capsys):
  """The loss of the last step was computed before its update."""
  assert train(trainer={
      'steps_per_loop': 1, 'checkpoint_interval': 1, 'optimizer_config': {
          'optimizer': {'type': 'sgd'}, 'learning_rate': {
              'type': 'stepwise', 'stepwise': {
                  'boundaries': [2], 'values': [0.001, 3e38]}}}}) == 1
  message = capsys.readouterr().err
  assert 'weights are not finite numbers' in message
  latest = tf.train.latest_checkpoint(str(tmp_path / 'run'))
  reader = tf.train.load_checkpoint(latest)
  for name in reader.get_variable_to_dtype_map():
    value = reader.get_tensor(name)
    assert not np.issubdtype(np.asarray(value).dtype, np.floating) or (
        np.isfinite(value).all()), name


def test_a_loss_that_explodes_is_told(train, capsys):
  assert train(trainer={'loss_upper_bound': 0.01}) == 1
  assert 'more than trainer.loss_upper_bound 0.01' in capsys.readouterr().err
