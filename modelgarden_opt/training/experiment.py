"""Runs one experiment in one run directory."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import os
from typing import Any

from official.core import base_task
from official.core import config_definitions as cfg
from official.core import task_factory
from official.modeling import performance
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import techniques
from modelgarden_opt.configs import overrides
from modelgarden_opt.data import defects
from modelgarden_opt.data import inputs
from modelgarden_opt.data import representative
from modelgarden_opt.data import service
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import keras_models
from modelgarden_opt.modeling.state import architecture
from modelgarden_opt.modeling.state import pretrained
from modelgarden_opt.modeling.state import whole
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import batch_norm_action
from modelgarden_opt.training import best_checkpoint
from modelgarden_opt.training import lock
from modelgarden_opt.training import runner as runner_lib
from modelgarden_opt.training import strategies
from modelgarden_opt.training import workers

# What must not change between two sessions of one run.
_IDENTITY = ('model', *techniques.TECHNIQUES)
# What may change in those blocks all the same: nothing reads it on resuming.
_CHANGEABLE = ('pretrained_original_checkpoint', 'calibration_steps',
               'calibration_method', 'calibration_percentile',
               'freeze_ranges_step', 'freeze_batch_norm_step')


def run_experiment(
    params: cfg.ExperimentConfig, mode: str, model_dir: str
) -> Mapping[str, Any]:
  """Trains or evaluates; resumes from the run directory's last checkpoint.

  Args:
    params: The resolved configuration.
    mode: `train`, `eval`, `train_and_eval` or `continuous_eval`.
    model_dir: The run directory.

  Returns:
    Metrics of the last evaluation, empty for mode `train`.

  Raises:
    UsageError: If the directory holds a run of another model, another process
      trains there, a checkpoint is missing or does not fit, or there is nothing
      to evaluate. Nothing has been written then.
  """
  strategies.assert_mode(params, mode)
  if strategies.serves(params):
    strategies.serve()
  with contextlib.ExitStack() as stack:
    if mode not in runner_lib.EVALUATING_MODES and strategies.is_chief():
      stack.enter_context(lock.held(model_dir))
      stack.enter_context(_swept(params, model_dir))
    return _run_alone(params, mode, model_dir)


@contextlib.contextmanager
def _swept(params: cfg.ExperimentConfig, model_dir: str) -> Iterator[None]:
  """Removes temporary files of killed processes, and those of this one."""
  directories = [model_dir, *(
      os.path.join(model_dir, name) for name in (
          params.trainer.best_checkpoint_export_subdir, 'ema_checkpoints')
      if name)]
  for directory in directories:
    lock.sweep(directory)
  try:
    yield
  finally:
    for directory in directories:
      lock.sweep(directory)


def _run_alone(
    params: cfg.ExperimentConfig, mode: str, model_dir: str
) -> Mapping[str, Any]:
  """Runs a mode in a directory that no other process writes to."""
  checkpoint = _latest_checkpoint(params, mode, model_dir)
  if checkpoint is None and mode in runner_lib.EVALUATING_MODES:
    checkpoint = _first_checkpoint(params, mode, model_dir)
  if checkpoint:
    _assert_same_run(params, model_dir)
  # The process may go on to export, or to train in another type.
  policy = tf_keras.mixed_precision.global_policy()
  performance.set_mixed_precision_policy(
      params.runtime.mixed_precision_dtype or 'float32')
  try:
    with workers.loss_told(), defects.named(params.task):
      model, logs = _run(params, mode, model_dir, checkpoint)
  finally:
    tf_keras.mixed_precision.set_global_policy(policy)
  broken = constraints.problems(constraints.find(model))
  if broken:
    raise RuntimeError(
        'the kernels are not as pruning and clustering left them: '
        + '; '.join(broken))
  return logs


def _run(
    params: cfg.ExperimentConfig,
    mode: str,
    model_dir: str,
    checkpoint: str | None,
) -> tuple[tf_keras.Model, Mapping[str, Any]]:
  """Builds task and runner, and runs a mode, see `run_experiment`."""
  strategy = strategies.get_strategy(params)
  strategies.assert_batches(params, mode, strategy.num_replicas_in_sync)
  step = whole.step(checkpoint) if checkpoint else -1
  workers.assert_same_checkpoint(strategy, model_dir, step)
  # Embedded data sets are made when they are read first.
  workers.in_turn(strategy, lambda: [
      inputs.resolve(data) for data in (
          params.task.train_data, params.task.validation_data)])
  if params.task.train_data.seed is not None:
    tf_keras.utils.set_random_seed(params.task.train_data.seed)
  with strategy.scope():
    task = task_factory.get_task(params.task, logging_dir=model_dir)
  if checkpoint:
    task.begun = True
    task.resumed_at = step
  task.gradient_accumulation_steps = getattr(
      params.runtime, 'gradient_accumulation_steps', 1)
  with workers.directory_of(strategy, model_dir) as directory:
    # Builds the model, and restores or initializes it: whatever is wrong with
    # the configuration shows before the first file is written.
    runner = runner_lib.Runner(
        distribution_strategy=strategy, task=task, mode=mode, params=params,
        model_dir=model_dir, directory=directory)
    if mode not in runner_lib.EVALUATING_MODES:
      batch_norm_action.warn_of_momentum(
          params, pretrained=bool(checkpoint or pretrained.named(params.task)),
          model=runner.trainer.model)
      if workers.is_chief(strategy):
        _write(task, params, model_dir, fresh=not checkpoint)
    with service.watched(params.task.train_data):
      return runner.run()


def _write(
    task: base_task.Task,
    params: cfg.ExperimentConfig,
    model_dir: str,
    fresh: bool,
) -> None:
  """Writes what a run directory holds beside checkpoints and metrics."""
  if fresh:
    representative.save(task, model_dir)
  architecture.write(task.filters, model_dir)
  keras_models.keep(params.task, model_dir)
  run_directory.save_params(params, model_dir)


def _latest_checkpoint(
    params: cfg.ExperimentConfig, mode: str, model_dir: str) -> str | None:
  """Returns the checkpoint that a run goes on from, None for a fresh one.

  Training moves damaged ones aside; evaluation refuses them.
  """
  if mode not in runner_lib.EVALUATING_MODES and strategies.is_chief():
    best_checkpoint.recover(params, model_dir)
    return whole.recover(model_dir, params.trainer.max_to_keep).prefix
  found = whole.newest(model_dir)
  if found.damaged and mode in runner_lib.EVALUATING_MODES:
    raise errors.UsageError(
        f'model_dir: {found.told()}; training resumes from '
        f'{found.prefix!r}' if found.prefix else f'model_dir: {found.told()}')
  return found.prefix


def _first_checkpoint(
    params: cfg.ExperimentConfig, mode: str, model_dir: str) -> str:
  """Returns the checkpoint that a run is about to write, if it may wait."""
  timeout = params.trainer.continuous_eval_timeout
  if mode == 'continuous_eval':
    for checkpoint in tf.train.checkpoints_iterator(model_dir, timeout=timeout):
      return checkpoint
  raise errors.UsageError(
      f'model_dir: {model_dir!r} holds no checkpoint to evaluate'
      + (f', and none came in {timeout} seconds '
         '(trainer.continuous_eval_timeout)' if mode != 'eval' else ''))


def _assert_same_run(params: cfg.ExperimentConfig, model_dir: str) -> None:
  """Refuses to resume a run with a model that its checkpoints do not fit."""
  if not run_directory.exists(model_dir):
    return
  before = run_directory.as_plain(_as_of_today(params, model_dir))['task']
  now = run_directory.as_plain(params)['task']
  quantization = params.task.quantization
  # Without training, what a run starts from is all that it is.
  changeable = () if quantization is not None and not (
      quantization.training) else _CHANGEABLE
  changed = [
      change for block in _IDENTITY
      for change in _differences(before.get(block), now.get(block),
                                 f'task.{block}', changeable)]
  if changed:
    raise errors.UsageError(
        f'model_dir: {model_dir!r} holds a run of another model; give another '
        'directory, or the same model: ' + '; '.join(changed))


def _as_of_today(
    params: cfg.ExperimentConfig, model_dir: str) -> cfg.ExperimentConfig:
  """Returns a run's configuration; fields that it lacks have today's defaults.

  That run had no other value for a field that was added since.
  """
  values = run_directory.load_yaml(model_dir)
  try:
    config = overrides.base(str(values['task'].get('name')))
  except errors.UsageError:  # Named otherwise then, or not at all.
    config = type(params)(task=type(params.task)())
  config.override(values, is_strict=False)
  return config


def _differences(
    before: Any, now: Any, path: str, changeable: Sequence[str]
) -> list[str]:
  if isinstance(before, Mapping) and isinstance(now, Mapping):
    return [line for key in sorted({*before, *now} - set(changeable))
            for line in _differences(
                before.get(key), now.get(key), f'{path}.{key}', changeable)]
  return [] if before == now else [f'{path} was {before!r}, is {now!r}']
