"""Fixtures that are built once: models, data and runs cost seconds each."""

import fcntl
import functools
import gc
import os
import pathlib
import shutil

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Ops of tiny models are too small to share between threads: handing parts over
# costs more than computing them. Holds for the processes that tests start, too.
os.environ.setdefault('TF_NUM_INTRAOP_THREADS', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
from official.modeling.hyperparams import base_config
import pytest
import tensorflow as tf
import tf_keras
import yaml

from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.configs import overrides
from tests import tiny

# Graphs that run a few times are not worth optimizing: a tenth of all time.
# The processes that tests start optimize them.
tf.config.optimizer.set_experimental_options({'disable_meta_optimizer': True})
# Neither are pipelines of data worth tuning; threads that tune would be waited
# for, up to 19 s, when an iterator goes.
_TUNED = tf.data.Options()
_TUNED.autotune.enabled = False
tf.data.Dataset._apply_debug_options = lambda self: self.with_options(_TUNED)
# Two replicas in one process: TensorFlow makes devices when it starts.
NUM_LOGICAL_CPUS = 4
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0],
    [tf.config.LogicalDeviceConfiguration()] * NUM_LOGICAL_CPUS)

# The hints of a class are evaluated for every field that is set: nine tenths of
# the time that a configuration takes. They do not change.
base_config.Config._get_annotations = classmethod(functools.cache(
    base_config.Config._get_annotations.__func__))

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]

# What costs most runs first: workers then end at about the same time. The rest
# follows in the order of its names.
LONGEST = (
    'training/test_replicas_of_weights.py',
    'training/test_replicas_of_ranges.py',
    'training/test_replicas.py',
    'families/test_families.py',
    'families/test_segmentation.py',
    'pipeline/test_executor.py',
    'cli/test_own_models.py',
    'training/test_pruning.py',
    'training/test_distillation.py',
    'evaluation/test_segmentation.py',
    'training/test_four_bits.py',
    'families/test_own_models.py',
    'training/test_channel_pruning.py',
    'families/test_boundaries.py',
    'training/test_experiment.py',
    'families/test_techniques.py',
    'projects/test_model_garden_bench.py',
    'modeling/rounding/test_layerwise.py',
    'compression/test_blocks.py',
    'export/test_exporter.py',
    'test_new_technique.py',
    'training/test_combinations.py',
)


def pytest_collection_modifyitems(items):
  """Puts the longest files first; needs `--no-loadscope-reorder` of xdist."""
  ranks = {REPOSITORY / 'tests' / name: rank
           for rank, name in enumerate(LONGEST)}
  items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_sessionstart():
  """Objects of imported modules live to the end: they are not searched."""
  gc.collect()
  gc.freeze()


@pytest.fixture(autouse=True, scope='module')
def _seeded_module():
  """What fixtures of a module make is the same every time, too."""
  tf_keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _seeded():
  tf_keras.utils.set_random_seed(0)


@pytest.fixture(scope='session')
def shared_dir(tmp_path_factory):
  """A directory that all workers of a test session share."""
  base = tmp_path_factory.getbasetemp()
  root = base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base
  path = root / 'shared'
  path.mkdir(exist_ok=True)
  return path


@pytest.fixture(scope='session')
def made_once(shared_dir):
  """Returns `get(name, make)`: the directory that `make(path)` has filled.

  The first worker that asks for it makes it, and others wait for it.
  """

  def get(name, make):
    path, done = shared_dir / name, shared_dir / f'{name}.done'
    with open(shared_dir / f'{name}.lock', 'w') as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      if not done.exists():
        shutil.rmtree(path, ignore_errors=True)  # Of an attempt that failed.
        path.mkdir()
        tf_keras.utils.set_random_seed(0)
        make(str(path))
        done.touch()
    return str(path)

  return get


@pytest.fixture(scope='session')
def data_dir(shared_dir):
  return str(shared_dir / 'data')


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
def float_run(tiny_params, made_once):
  """A float run directory of 120 steps."""
  from modelgarden_opt.training import experiment
  return made_once('float_run', lambda model_dir: experiment.run_experiment(
      tiny_params('mobilenet_v2'), 'train_and_eval', model_dir))


@pytest.fixture(scope='session')
def qat_run(tiny_params, float_run, made_once):
  """A quantization-aware run directory that started from `float_run`."""
  from modelgarden_opt.training import experiment
  params = tiny_params('mobilenet_v2_qat', {'task': {'quantization': {
      'pretrained_original_checkpoint': float_run, 'calibration_steps': 4}}})
  return made_once('qat_run', lambda model_dir: experiment.run_experiment(
      params, 'train_and_eval', model_dir))


@pytest.fixture(scope='session')
def exported(float_run, qat_run, made_once):
  """Returns `get(run, file_format)`: what an export of a run reported.

  `run` is 'float' or 'qat'; the file is at `found['model']`. Files are shared:
  tests read them only.
  """
  from modelgarden_opt import files
  from modelgarden_opt.export import exporter

  def get(run, file_format):
    def make(directory):
      found = exporter.export(
          {'float': float_run, 'qat': qat_run}[run], file_format,
          os.path.join(directory, 'm.tflite'), calibration_images=64)
      files.write_json(os.path.join(directory, 'found.json'), found)

    directory = made_once(f'{run}_{file_format}', make)
    return files.read_json(os.path.join(directory, 'found.json'))

  return get


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
