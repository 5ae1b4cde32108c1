"""Fixtures that are built once: models, data and runs cost seconds each."""

import os
import pathlib

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import yaml

from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.configs import overrides
from tests import tiny

# Two replicas in one process: TensorFlow makes devices when it starts.
NUM_LOGICAL_CPUS = 4
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0],
    [tf.config.LogicalDeviceConfiguration()] * NUM_LOGICAL_CPUS)

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]

@pytest.fixture(autouse=True)
def _seeded():
  tf_keras.utils.set_random_seed(0)


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory):
  return str(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='session')
def tiny_params(data_dir):
  """Returns `make(experiment, *further overrides)` of unlocked configs."""

  def make(experiment, *further):
    config = overrides.base(experiment)
    config.task.name = experiment
    for override in (tiny.overrides(data_dir), *further):
      config.override(override)
    return config

  return make


@pytest.fixture(scope='session')
def tiny_yaml(data_dir, tmp_path_factory):
  """Returns the path of a YAML file with all tiny overrides."""
  path = tmp_path_factory.mktemp('config') / 'tiny.yaml'
  path.write_text(yaml.safe_dump(tiny.overrides(data_dir)))
  return str(path)


@pytest.fixture(scope='session')
def float_run(tiny_params, tmp_path_factory):
  """A float run directory of 120 steps."""
  from modelgarden_opt.training import experiment
  model_dir = str(tmp_path_factory.mktemp('float'))
  experiment.run_experiment(
      tiny_params('mobilenet_v2'), 'train_and_eval', model_dir)
  return model_dir


@pytest.fixture(scope='session')
def qat_run(tiny_params, float_run, tmp_path_factory):
  """A quantization-aware run directory that started from `float_run`."""
  from modelgarden_opt.training import experiment
  model_dir = str(tmp_path_factory.mktemp('qat'))
  params = tiny_params('mobilenet_v2_qat', {'task': {'quantization': {
      'pretrained_original_checkpoint': float_run, 'calibration_steps': 4}}})
  experiment.run_experiment(params, 'train_and_eval', model_dir)
  return model_dir


def randomize_norms(layer: tf_keras.layers.Layer, seed: int = 0) -> None:
  """Gives every batch norm statistics as different as trained ones are."""
  rng = np.random.default_rng(seed)
  for sub in layer._flatten_layers():
    if isinstance(sub, tf_keras.layers.BatchNormalization) and sub.built:
      shape = sub.gamma.shape
      sub.gamma.assign(rng.uniform(0.5, 1.5, shape))
      sub.beta.assign(rng.normal(0.0, 0.5, shape))
      sub.moving_mean.assign(rng.normal(0.0, 0.3, shape))
      sub.moving_variance.assign(rng.uniform(0.3, 1.5, shape))


def sqnr_db(reference: np.ndarray, value: np.ndarray) -> float:
  """Signal to quantization noise ratio in dB."""
  noise = np.mean((reference - value)**2)
  return float(10 * np.log10(np.mean(reference**2) / noise))


def random_images(shape, seed=0) -> tf.Tensor:
  return tf.constant(
      np.random.default_rng(seed).normal(size=shape).astype(np.float32))
