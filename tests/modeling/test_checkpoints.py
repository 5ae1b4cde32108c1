"""Variables travel by name, and what does not fit is told in one error."""

import os

import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.state import checkpoints
from tests import conftest


@pytest.fixture(scope='module')
def float_model(tiny_params):
  model = task_factory.get_task(tiny_params('mobilenet_v2').task).build_model()
  conftest.randomize_norms(model)
  return model


@pytest.fixture(scope='module')
def quantized(float_model):
  return factory.compress(float_model, quantization_cfg.Quantization())


def _floats(model):
  return {p: v.numpy() for p, v in checkpoints._variables(model)
          if not checkpoints._of_technique(p)}


def _disturb(model):
  for variable in model.variables:
    variable.assign(variable + 1.0)


def test_compress_copies_every_float_variable(float_model, quantized):
  expected, actual = _floats(float_model), _floats(quantized)
  assert expected.keys() == actual.keys()
  assert len(expected) == len(float_model.variables)
  for path in expected:
    np.testing.assert_array_equal(actual[path], expected[path])


@pytest.mark.parametrize('items', [('model',), ('model', 'backbone')])
def test_model_garden_checkpoint_loads_into_the_twin(
    float_model, quantized, items, tmp_path):
  # What official.core.base_trainer saves: model, backbone, optimizer, step.
  parts = {'model': float_model, 'backbone': float_model.backbone}
  path = tf.train.Checkpoint(
      global_step=tf.Variable(5, dtype=tf.int64),
      **{name: parts[name] for name in items}).save(str(tmp_path / 'ckpt'))
  expected = _floats(float_model)
  for given in (path, str(tmp_path)):
    _disturb(quantized)
    checkpoints.load_checkpoint(quantized, given)
    actual = _floats(quantized)
    assert all(np.array_equal(actual[p], expected[p]) for p in expected)


def test_backbone_checkpoint_leaves_the_head_alone(
    float_model, quantized, tmp_path):
  path = tf.train.Checkpoint(backbone=float_model.backbone).save(
      str(tmp_path / 'ckpt'))
  for modules in ('all', 'backbone'):
    _disturb(quantized)
    head = quantized.layers[-1].kernel.numpy()
    checkpoints.load_checkpoint(quantized, path, modules)
    np.testing.assert_array_equal(quantized.layers[-1].kernel, head)
    expected = _floats(float_model.backbone)
    actual = _floats(quantized.backbone)
    assert all(np.array_equal(actual[p], expected[p]) for p in expected)


def test_loading_leaves_quantizer_variables_alone(
    float_model, quantized, tmp_path):
  path = tf.train.Checkpoint(model=float_model).save(str(tmp_path / 'ckpt'))
  ranges = [v for p, v in checkpoints._variables(quantized)
            if checkpoints._of_technique(p)]
  assert ranges
  for variable in ranges:
    variable.assign(0.125)
  checkpoints.load_checkpoint(quantized, path)
  assert all(v.numpy() == 0.125 for v in ranges)


def test_a_quantized_checkpoint_loads_into_a_float_model(
    float_model, quantized, tmp_path):
  path = tf.train.Checkpoint(model=quantized).save(str(tmp_path / 'ckpt'))
  _disturb(float_model)
  checkpoints.load_checkpoint(float_model, path)
  expected, actual = _floats(quantized), _floats(float_model)
  assert all(np.array_equal(actual[p], expected[p]) for p in actual)


def test_another_width_is_told_in_one_error_and_nothing_is_assigned(
    tiny_params, quantized, tmp_path):
  other = task_factory.get_task(tiny_params('mobilenet_v2', {
      'task': {'model': {'backbone': {
          'mobilenet': {'filter_size_scale': 0.5}}}}}).task).build_model()
  path = tf.train.Checkpoint(model=other).save(str(tmp_path / 'ckpt'))
  before = _floats(quantized)
  with pytest.raises(checkpoints.CheckpointMismatchError) as e:
    checkpoints.load_checkpoint(quantized, path)
  message = str(e.value)
  assert 'of another shape' in message and 'and' in message
  assert len(message.splitlines()) < 30
  after = _floats(quantized)
  assert all(np.array_equal(after[p], before[p]) for p in before)


def test_another_family_is_told_with_missing_and_unused_names(
    quantized, tmp_path):
  other = tf.Module()
  other.kernel = tf.Variable(tf.zeros([3]))
  path = tf.train.Checkpoint(model=other).save(str(tmp_path / 'ckpt'))
  with pytest.raises(checkpoints.CheckpointMismatchError) as e:
    checkpoints.load_checkpoint(quantized, path)
  assert '0 of' in str(e.value)
  assert 'missing from the source' in str(e.value)
  assert 'unused by the model' in str(e.value)


def test_missing_paths_are_told_with_what_is_there(quantized, tmp_path):
  with pytest.raises(errors.UsageError, match='does not exist'):
    checkpoints.load_checkpoint(
        quantized, str(tmp_path / 'no' / 'ckpt-1'), field='task.init')
  with pytest.raises(errors.UsageError, match='holds no checkpoint'):
    checkpoints.load_checkpoint(quantized, str(tmp_path))
  tf.train.Checkpoint(model=quantized).write(str(tmp_path / 'ckpt-7'))
  with pytest.raises(errors.UsageError, match=r'found there: .*ckpt-7'):
    checkpoints.load_checkpoint(quantized, os.path.join(tmp_path, 'ckpt-8'))
