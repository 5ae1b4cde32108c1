"""A run directory: its configuration, and its model with trained weights."""

from collections.abc import Mapping
import dataclasses
import functools
import os
from typing import Any

import numpy as np
from official.core import base_task
from official.core import config_definitions as cfg
from official.core import task_factory
from official.modeling import optimization
import tensorflow as tf
import tf_keras
import yaml

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.configs import origins
from modelgarden_opt.configs import overrides
from modelgarden_opt.configs import run_files
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.state import checkpoints
from modelgarden_opt.modeling.state import whole

PARAMS = overrides.RUN_PARAMS
# What every configuration of a run has.
_BLOCKS = ('runtime', 'task', 'trainer')
RAW, AVERAGED = 'raw weights', 'moving averages'


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained model and what it was trained with.

  Attributes:
    model_dir: The run directory.
    params: The resolved configuration.
    task: The task, which builds inputs of every split.
    model: The model with the checkpoint's weights; None where only the data
      of the run are wanted.
    checkpoint: File prefix of that checkpoint, then empty.
    weights: Which of its weights they are, `RAW` or `AVERAGED`: those that
      evaluation scores.
  """
  model_dir: str
  params: cfg.ExperimentConfig
  task: base_task.Task
  model: tf_keras.Model | None
  checkpoint: str
  weights: str = RAW

  def predict(self, images: np.ndarray) -> np.ndarray:
    """Returns the model's logits of preprocessed images [b, h, w, c].

    The model is traced at the first call; it must not change after it.
    """
    return self._logits(tf.constant(images)).numpy()

  def trace(self) -> None:
    """Traces the model now and not at the first call of `predict`."""
    self._logits.get_concrete_function()

  @functools.cached_property
  def _logits(self):
    # A segmentation model is not functional: it has no input.
    inputs, = self.model.inputs or self.model.backbone.inputs
    return tf.function(
        lambda images: factory.logits(self.model(images, training=False)),
        input_signature=[tf.TensorSpec(inputs.shape, tf.float32)],
        autograph=False)


def exists(model_dir: str) -> bool:
  """Whether a run was started in this directory."""
  return tf.io.gfile.exists(os.path.join(model_dir, PARAMS))


def save_params(params: cfg.ExperimentConfig, model_dir: str) -> None:
  """Writes the resolved configuration of a run to `params.yaml`.

  After the values, comments say which file each of them came from.
  """
  files.write_atomically(os.path.join(model_dir, PARAMS), to_yaml(
      params) + origins.comments(origins.of(params)))


def to_yaml(params: cfg.ExperimentConfig) -> str:
  """Returns a configuration as YAML that `--config_file` reads back."""
  return yaml.safe_dump(as_plain(params), default_flow_style=False)


def as_plain(params: cfg.base_config.Config) -> dict[str, Any]:
  """Returns a configuration, or a part, as dictionaries, lists and scalars."""
  return _plain(params.as_dict())


def _plain(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {key: _plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(item) for item in value]
  return value


def load_yaml(model_dir: str) -> dict[str, Any]:
  """Returns `params.yaml` of a run as a dictionary.

  Raises:
    UsageError: If `model_dir` is not a run directory.
  """
  run_files.assert_run('model_dir', model_dir)
  path = os.path.join(model_dir, PARAMS)
  values = overrides.load_yaml(path)
  missing = [block for block in _BLOCKS
             if not isinstance(values.get(block), Mapping)]
  if missing:
    raise errors.UsageError(
        f'{path}: is damaged: it has no {" and no ".join(missing)}; once it is '
        'moved away, the same training resumes and writes it again')
  return values


def load_params(model_dir: str) -> cfg.ExperimentConfig:
  """Returns the configuration of a run.

  Raises:
    UsageError: If `model_dir` is not a run directory of a known experiment.
  """
  values = load_yaml(model_dir)
  name = values.get('task', {}).get('name')
  if not name:
    raise errors.UsageError(
        f'{os.path.join(model_dir, PARAMS)}: task.name does not name the '
        'experiment')
  return overrides.resolve(
      name, [os.path.join(model_dir, PARAMS)], trained=True)


def load(model_dir: str, checkpoint: str = 'best') -> Run:
  """Rebuilds a run's model with trained weights, from its directory alone.

  A run that keeps moving averages of its weights is evaluated with them, so
  they are loaded into its model from any checkpoint.

  Args:
    model_dir: The run directory.
    checkpoint: `best` (the latest where a run keeps no best), `latest`, or a
      checkpoint's file prefix.

  Raises:
    UsageError: If the directory or the checkpoint is missing.
  """
  params = load_params(model_dir)
  path = find_checkpoint(model_dir, params, checkpoint)
  task = task_factory.get_task(params.task, logging_dir=model_dir)
  task.begun = True
  # Layers are named, and so are the tensors of files, as in a fresh process.
  tf_keras.backend.reset_uids()
  model = task.build_model()
  items = {'model': model, **getattr(model, 'checkpoint_items', {})}
  _read(items, path)
  ema = params.trainer.optimizer_config.ema
  averaged = ema is not None and _assign_averages(
      model, path, ema.trainable_weights_only)
  return Run(model_dir, params, task, model, path,
             AVERAGED if averaged else RAW)


def _read(items: Mapping[str, Any], path: str) -> None:
  """Reads a checkpoint into parts of a model.

  Raises:
    UsageError: If it is of another model, or damaged.
  """
  try:
    status = tf.train.Checkpoint(**items).read(path)
    status.expect_partial().assert_existing_objects_matched()
  except (ValueError, AssertionError, tf.errors.OpError) as e:
    what = ' '.join(str(errors.of_op(e)).split())[:300]
    raise errors.UsageError(
        f'checkpoint: {path!r} is not one of this run: {what}') from None


def _assign_averages(
    model: tf_keras.Model, path: str, trainable_only: bool) -> bool:
  """Gives a model the moving averages of the weights that it was loaded with.

  Args:
    model: The model, which has the weights of the checkpoint.
    path: The checkpoint's file prefix.
    trainable_only: Whether other variables have no averages.

  Returns:
    Whether the model has averages now; not if the checkpoint holds none.
  """
  if checkpoints.holds_averages(path):
    return True
  averages = optimization.ExponentialMovingAverage(
      tf_keras.optimizers.legacy.SGD(), trainable_only)
  averages.shadow_copy(model)
  tf.train.Checkpoint(
      model=model, optimizer=averages).read(path).expect_partial()
  variables = model.trainable_variables if trainable_only else model.variables
  keys = whole.reader_of(path).get_variable_to_shape_map()
  if sum('/.OPTIMIZER_SLOT/optimizer/average/' in key for key in keys) < len(
      variables):
    return False
  for variable in variables:
    variable.assign(averages.get_slot(variable, 'average'))
  return True


def find_checkpoint(
    model_dir: str, params: cfg.ExperimentConfig, checkpoint: str
) -> str:
  """Returns the file prefix of `best`, `latest` or a path."""
  if checkpoint not in ('best', 'latest'):
    return checkpoints.resolve(checkpoint, 'checkpoint')
  directories = [model_dir]
  if checkpoint == 'best' and params.trainer.best_checkpoint_export_subdir:
    directories.insert(0, os.path.join(
        model_dir, params.trainer.best_checkpoint_export_subdir))
  for directory in directories:
    path = whole.latest(directory, 'model_dir')
    if path:
      return path
  raise errors.UsageError(f'model_dir: {model_dir!r} holds no checkpoint yet')
