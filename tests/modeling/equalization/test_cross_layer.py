"""Cross-layer equalization against its definition and on a trained model."""

import numpy as np
from official.core import task_factory
import pytest
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.equalization import cross_layer
from modelgarden_opt.modeling.equalization import rescaling
from modelgarden_opt.modeling.equalization import units
from tests import conftest
from tests import tiny
from tests.modeling.equalization import models

layers = tf_keras.layers


def _largest(kernel, axis):
  return np.abs(kernel).max(tuple(
      i for i in range(kernel.ndim) if i != axis))


def test_a_pair_has_the_ranges_of_the_definition():
  """Both ranges become sqrt(r1 r2), arXiv:1906.04721, equation 11."""
  model = models.functional(lambda x: layers.Conv2D(5, 3)(
      layers.ReLU()(layers.Conv2D(4, 3, use_bias=False)(x))))
  first, second = (unit.op.kernel_variable for unit in units.find(model))
  first.assign(first * [0.01, 1.0, 3.0, 20.0])
  a, b = first.numpy(), second.numpy()
  cross_layer.equalize(model)
  s = np.sqrt(_largest(a, 3) * _largest(b, 2)) / _largest(b, 2)
  np.testing.assert_allclose(first, a / s, rtol=1e-4)
  np.testing.assert_allclose(second, b * s[:, np.newaxis], rtol=1e-4)
  np.testing.assert_allclose(
      _largest(first.numpy(), 3), _largest(second.numpy(), 2), rtol=1e-4)


def test_dead_channels_stay_as_they_are():
  model = models.functional(lambda x: layers.Conv2D(5, 1)(
      layers.ReLU()(layers.Conv2D(4, 1)(x))))
  first, second = (unit.op.kernel_variable for unit in units.find(model))
  first.assign(first * [0.0, 1.0, 1.0, 1.0])
  second.assign(second * np.reshape([1.0, 1.0, 1.0, 0.0], [4, 1]))
  a, b = first.numpy(), second.numpy()
  before = models.in_float(model, conftest.random_images([2, 8, 8, 3]))
  cross_layer.equalize(model)
  np.testing.assert_array_equal(first.numpy()[..., [0, 3]], a[..., [0, 3]])
  np.testing.assert_array_equal(second.numpy()[:, :, [0, 3]], b[:, :, [0, 3]])
  assert not np.allclose(first.numpy()[..., [1, 2]], a[..., [1, 2]])
  np.testing.assert_allclose(
      models.in_float(model, conftest.random_images([2, 8, 8, 3])), before,
      atol=1e-5)


def test_equalization_undoes_rescaling(tiny_params):
  """Its result depends on the function alone, not on how channels scale."""
  floats = models.family(tiny_params, 'mobilenet_v2')
  equalized = []
  for rescales in (False, True):
    model = models.quantized(floats)
    if rescales:
      rescaling.rescale(units.find(model))
    cross_layer.equalize(model)
    equalized.append([unit.op.kernel_variable.numpy()
                      for unit in units.find(model)])
  for plain, undone in zip(*equalized):
    np.testing.assert_allclose(undone, plain, rtol=0.01, atol=1e-6)


def test_a_model_without_pairs_is_told_why(tiny_params):
  model = task_factory.get_task(tiny_params('mobilenet_v2_qat').task
                                ).build_model()
  kernel = units.find(model)[0].op.kernel_variable
  before = kernel.numpy()
  with pytest.raises(errors.UsageError) as error:
    cross_layer.equalize(model)
  assert 'relu6 after 7 kernels does not scale' in str(error.value)
  assert 'MobileNetV2Relu' in str(error.value)
  np.testing.assert_array_equal(kernel, before)


@pytest.fixture(scope='module')
def trained(tiny_params):
  """A task and its float model of relu, trained on digits."""
  params = tiny_params('mobilenet_v2', models.FAMILIES['mobilenet_v2'])
  task = task_factory.get_task(params.task)
  model = task.build_model()
  tiny.train(task, model, 150, 0.004)
  return task, model


def _accuracy(task, model):
  right = [np.argmax(factory.logits(model(x, training=False)), -1) == y
           for x, y in task.build_inputs(task.task_config.validation_data)]
  return np.mean(np.concatenate(right))


def test_equalized_kernels_of_one_scale_keep_the_accuracy(trained):
  task, floats = trained
  images = [x for x, _ in task.build_inputs(
      task.task_config.train_data).take(4)]
  accuracy = {}
  for name, changes in {
      'plain': [rescaling.fold_batch_norm],
      'rescaled': [rescaling.rescale, rescaling.fold_batch_norm],
      'equalized': [rescaling.rescale],
  }.items():
    model = models.quantized(floats)
    found = units.find(model)
    for change in changes:
      change(found)
    if name == 'equalized':
      cross_layer.equalize(model)
    calibration.calibrate(model, ((x, None) for x in images))
    accuracy[name] = _accuracy(task, model)
  expected = _accuracy(task, floats)
  print('float', expected, accuracy)
  assert expected > 0.8
  assert accuracy['rescaled'] < expected - 0.2
  assert accuracy['equalized'] > expected - 0.03
