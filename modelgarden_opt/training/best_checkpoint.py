"""Keeps the checkpoint with the best validation metric."""

import collections
from collections.abc import Mapping
import math
import os
from typing import Any

from absl import logging
from official.core import config_definitions as cfg
from official.core import train_utils
import orbit
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import techniques
from modelgarden_opt.modeling.state import whole
from modelgarden_opt.training import metrics
from modelgarden_opt.training import workers

INFO = 'info.json'


class BestCheckpointExporter(train_utils.BestCheckpointExporter):
  """The Model Garden's exporter, safe against a kill at any moment.

  The checkpoint is saved first and the record of its metric afterwards, under
  a temporary name; and nothing is created before there is something to keep.
  Of equal metrics, which small validation sets often give, the later one wins.
  While kernels are still being pruned no checkpoint is the best.
  """

  def __init__(
      self,
      export_dir: str,
      metric_name: str,
      metric_comp: str,
      first_step: int = 0,
      record_dir: str = '',
  ):
    """Initializes the exporter.

    Args:
      export_dir: Directory of the best checkpoint.
      metric_name: Name of the metric that decides.
      metric_comp: `higher` or `lower`, whichever is better.
      first_step: Checkpoints of earlier steps do not count.
      record_dir: Where the record of the best one is read from at first, ''
        for `export_dir`.
    """
    self._first_step = first_step
    # The base constructor creates the directory; everything else it does:
    self._export_dir = export_dir
    self._metric_name = metric_name.split('|')
    self._metric_comp = metric_comp
    self._checkpoint_manager = None
    self._best_ckpt_logs = files.read_json_if_any(
        os.path.join(record_dir or export_dir, INFO))

  @property
  def best_ckpt_logs(self) -> dict[str, Any]:
    """Metrics of the best checkpoint, not-a-number while there is none."""
    return self._best_ckpt_logs or collections.defaultdict(lambda: math.nan)

  def maybe_export_checkpoint(
      self,
      checkpoint: tf.train.Checkpoint,
      eval_logs: dict[str, Any],
      global_step: int,
      write_logs: bool = True,
  ) -> bool:
    """Saves the checkpoint if its metric beats the best one so far.

    Args:
      checkpoint: What to save.
      eval_logs: Metrics of the evaluation that just ended.
      global_step: The training step.
      write_logs: Whether the metrics are recorded beside the checkpoint.

    Returns:
      Whether it was saved.
    """
    # Metrics are the same on all workers; the chief decides all the same.
    if global_step < self._first_step or not workers.of_chief(
        tf.distribute.get_strategy(), self._beats(eval_logs)):
      return False
    self._best_ckpt_logs = dict(eval_logs)
    self._get_checkpoint_manager(checkpoint).save(
        checkpoint_number=global_step)
    if write_logs:
      self.export_best_eval_metric(dict(eval_logs), global_step)
    return True

  def _beats(self, eval_logs: dict[str, Any]) -> bool:
    """Whether metrics are at least as good as the best; not-a-number never is.
    """
    if math.isnan(self._value(eval_logs)):
      return False
    best = self._best_ckpt_logs
    return best is None or math.isnan(self._value(best)) or (
        not self._new_metric_is_better(eval_logs, best))

  def _value(self, logs: dict[str, Any]) -> float:
    return float(orbit.utils.get_value(
        train_utils.get_leaf_nested_dict(logs, self._metric_name)))

  def export_best_eval_metric(
      self, eval_logs: dict[str, Any], global_step: int) -> None:
    record = {name: float(orbit.utils.get_value(value))
              for name, value in eval_logs.items() if tf.rank(value) == 0}
    record['best_ckpt_global_step'] = float(global_step)
    files.write_json(self.best_ckpt_logs_path, record)


def make_exporter(
    params: cfg.ExperimentConfig, model_dir: str, directory: str
) -> BestCheckpointExporter | None:
  """Returns the exporter that `trainer.best_checkpoint_*` asks for, or None.

  Args:
    params: The configuration of the run.
    model_dir: The run directory.
    directory: Where this worker saves, see `workers.directory_of`.
  """
  trainer, export_dir = params.trainer, _directory(params, directory)
  if export_dir is None:
    return None
  return BestCheckpointExporter(
      export_dir,
      trainer.best_checkpoint_eval_metric,
      trainer.best_checkpoint_metric_comp,
      max((block.last_step() for block in techniques.blocks_of(
          params.task).values()), default=0),
      _directory(params, model_dir))


def _directory(params: cfg.ExperimentConfig, model_dir: str) -> str | None:
  """Returns the directory of the best checkpoint, None if a run keeps none."""
  trainer = params.trainer
  if not (trainer.best_checkpoint_export_subdir and
          trainer.best_checkpoint_eval_metric):
    return None
  return os.path.join(model_dir, trainer.best_checkpoint_export_subdir)


def recover(params: cfg.ExperimentConfig, model_dir: str) -> None:
  """Makes a damaged best checkpoint again, or makes way for another one.

  It is a copy of the run's checkpoint of the same step, if that is kept. Else
  the next evaluation finds the best; if training is at an evaluation, that one
  is repeated.

  Args:
    params: The resolved configuration.
    model_dir: A run directory that this process writes to.
  """
  directory = _directory(params, model_dir)
  if directory is None or not files.exists(directory):
    return
  best = whole.recover(directory, max_to_keep=1).prefix
  path = os.path.join(directory, INFO)
  record = _read_record(path)
  if best is None and record is not None:
    best = _copy(params, model_dir, directory, record)
  if best is not None:
    if record is None:
      _record_again(path, model_dir, whole.step(best))
    return
  if files.exists(path):
    tf.io.gfile.remove(path)
  resumed = whole.newest(model_dir).prefix
  if resumed is not None and record is not None:
    metrics.forget(model_dir, whole.step(resumed))


def _read_record(path: str) -> Mapping[str, Any] | None:
  """Returns the metrics of the best checkpoint, None if they are damaged."""
  try:
    found = files.read_json_if_any(path)
    return found if math.isfinite(found['best_ckpt_global_step']) else None
  except (errors.UsageError, TypeError, KeyError):
    return None


def _copy(
    params: cfg.ExperimentConfig,
    model_dir: str,
    directory: str,
    record: Mapping[str, Any],
) -> str | None:
  """Copies the run's checkpoint of the best step, if it holds the same."""
  step = int(record['best_ckpt_global_step'])
  source = os.path.join(model_dir, f'ckpt-{step}')
  # With moving averages the best checkpoint holds them as its weights.
  if params.trainer.optimizer_config.ema or whole.damage(source):
    return None
  target = os.path.join(
      directory, f'{train_utils.BEST_CHECKPOINT_NAME}-{step}')
  for name in tf.io.gfile.glob(f'{source}.*'):
    tf.io.gfile.copy(name, target + name[len(source):], overwrite=True)
  whole.name_latest(directory, [target])
  logging.warning('%r is a copy of %r now.', target, source)
  return target


def _record_again(path: str, model_dir: str, step: int) -> None:
  """Writes the metrics of the best checkpoint as the run remembers them."""
  found = next((record for record in metrics.read(model_dir)
                if record['step'] == step
                and record['split'] == 'validation'), None)
  if found is None:
    if files.exists(path):
      tf.io.gfile.remove(path)
    return
  files.write_json(path, {
      **{name: value for name, value in found.items()
         if name not in ('step', 'split', 'time')},
      'best_ckpt_global_step': float(step)})
