"""A rescaled run is a float run of the same outputs."""


import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.tasks import run_directory
from projects.fashion_mnist import rescale
from tests import conftest
from tests.modeling.equalization import models

IMAGES = conftest.random_images([4, 32, 32, 3])


@pytest.fixture(scope='module')
def run_dir(tiny_params, tmp_path_factory):
  """A float run of relu that was not trained."""
  directory = str(tmp_path_factory.mktemp('relu'))
  params = tiny_params('mobilenet_v2', models.FAMILIES['mobilenet_v2'])
  run_directory.save_params(params, directory)
  model = task_factory.get_task(params.task).build_model()
  conftest.randomize_norms(model)
  tf.train.Checkpoint(model=model, **model.checkpoint_items).save(
      f'{directory}/ckpt')
  return directory


def test_a_rescaled_run_can_be_loaded_and_started_from(
    run_dir, tiny_params, tmp_path):
  before = run_directory.load(run_dir)
  assert rescale.rescale(run_dir, str(tmp_path), 1 / 16, 16.0, 0) == 6
  after = run_directory.load(str(tmp_path))
  np.testing.assert_allclose(
      after.predict(IMAGES), before.predict(IMAGES), rtol=1e-3, atol=1e-5)
  ratio = (after.model.trainable_variables[0] /
           before.model.trainable_variables[0]).numpy()
  assert ratio.min() == ratio.max() == 1.0  # Its reader adds it again.
  task = task_factory.get_task(tiny_params(
      'mobilenet_v2_qat', models.FAMILIES['mobilenet_v2'],
      {'task': {'quantization': {
          'pretrained_original_checkpoint': str(tmp_path),
          'calibration_steps': 2, 'weight_granularity': 'per_tensor',
          'cross_layer_equalization': True, 'bias_correction': True}}}).task)
  model = task.build_model()
  task.initialize(model)
  assert models.difference(
      models.in_float(model, IMAGES), after.predict(IMAGES)) < 0.05
  kernel = model.backbone.layers[3]._conv1.depthwise_kernel.numpy()
  largest = np.abs(kernel).max(axis=(0, 1, 3))
  reads = model.backbone.layers[3]._conv2.kernel.numpy()
  np.testing.assert_allclose(
      largest, np.abs(reads).max(axis=(0, 1, 3)), rtol=0.01)


def test_a_run_of_relu6_has_nothing_to_scale(float_run, tmp_path):
  with pytest.raises(errors.UsageError, match='MobileNetV2Relu'):
    rescale.rescale(float_run, str(tmp_path / 'out'), 1 / 16, 16.0, 0)
  assert not (tmp_path / 'out').exists()
