"""The Model Garden's experiment runner with this project's actions."""

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
from typing import Any

from official.core import actions
from official.core import base_task
from official.core import train_lib
from official.core import train_utils
import orbit

from modelgarden_opt import stopping
from modelgarden_opt.compression import replicas
from modelgarden_opt.modeling import constraints
from modelgarden_opt.training import batch_norm_action
from modelgarden_opt.training import best_checkpoint
from modelgarden_opt.training import constraint_action
from modelgarden_opt.training import controller as controller_lib
from modelgarden_opt.training import dropout
from modelgarden_opt.training import freeze_action
from modelgarden_opt.training import metrics
from modelgarden_opt.training import nan_action
from modelgarden_opt.training import portions
from modelgarden_opt.training import progress_action
from modelgarden_opt.training import workers


class Runner(train_lib.OrbitExperimentRunner):
  """Builds trainer, checkpoint manager and Orbit controller, and runs them."""

  # Actions with `steps_until_next`, beside being actions.
  _scheduled = ()

  def __init__(self, *args, directory: str, **kwargs):
    """Builds everything, and restores or initializes the model.

    Args:
      *args: Those of the base class.
      directory: Where this worker saves, see `workers.directory_of`.
      **kwargs: Those of the base class.
    """
    self._directory = directory
    super().__init__(*args, **kwargs)

  def _build_trainer(
      self, task: base_task.Task, train: bool, evaluate: bool
  ) -> portions.Trainer:
    self._task = task
    if self.params.runtime.distribution_strategy == 'parameter_server':
      # It traces how inputs are made, and would tell of wrong records in a
      # traceback. What is found here is known there.
      task.check_records(self.params.task.train_data)
    with self.strategy.scope():
      trainer = train_utils.create_trainer(
          self.params, task, train=train, evaluate=evaluate,
          checkpoint_exporter=best_checkpoint.make_exporter(
              self.params, self.model_dir, self._directory),
          trainer_cls=portions.Trainer)
      if train:
        dropout.depend_on_step(trainer.model, trainer.global_step,
                               self.params.task.train_data.seed)
        task.begin_training(trainer.model)
    return trainer

  def _maybe_build_checkpoint_manager(self) -> workers.CheckpointManager:
    config = self.params.trainer
    return workers.CheckpointManager(
        self.trainer.checkpoint,
        self.model_dir,
        directory=self._directory,
        max_to_keep=config.max_to_keep,
        step_counter=self.trainer.global_step,
        checkpoint_interval=config.checkpoint_interval,
        init_fn=self.trainer.initialize)

  def _build_controller(
      self, trainer, evaluator, save_summary: bool = True,
      train_actions=None, eval_actions=None, controller_cls=None,
      enable_async_checkpointing: bool = False) -> controller_lib.Controller:
    """Restores the latest checkpoint or initializes, then adds the actions."""
    del controller_cls  # The base class names Orbit's.
    step, config = self.trainer.global_step, self.params.trainer
    chief = self.strategy.extended.should_save_summary
    # The constructor restores or initializes; actions that look at the
    # restored step are made after it.
    controller = controller_lib.Controller(
        strategy=self.strategy,
        trainer=trainer,
        evaluator=evaluator,
        global_step=step,
        steps_per_loop=self._steps_per_loop,
        checkpoint_manager=self.checkpoint_manager,
        enable_async_checkpointing=enable_async_checkpointing,
        summary_interval=config.summary_interval,
        # Named only to distinguish it from the training summaries'.
        eval_summary_dir=config.validation_summary_subdir,
        summary_manager=metrics.JsonlSummaryManager(
            self.model_dir, 'train', 'train', step, chief),
        eval_summary_manager=metrics.JsonlSummaryManager(
            self.model_dir, config.validation_summary_subdir, 'validation',
            step, chief),
        eval_actions=[*(eval_actions or []), *actions.get_eval_actions(
            self.params, evaluator, self._directory)])
    self._progress = progress_action.ProgressAction(step, config.train_steps)
    if trainer:
      # An evaluation before the next step may save the best checkpoint. Before
      # the very first one, and in a calibration, there are no slots to save.
      if self._resumed_at:
        trainer.make_slots()
      if chief:
        metrics.rewind(self.model_dir, self._resumed_at)
      controller.train_actions = tuple(
          self._train_actions(controller, trainer, train_actions or []))
    return controller

  def _rewind(self, step: int) -> None:
    """Makes the records of a run end at a step."""
    if self.strategy.extended.should_save_summary:
      metrics.rewind(self.model_dir, step)

  @property
  def _resumed_at(self) -> int | None:
    """The step of the checkpoint that was restored, None for a fresh run."""
    restored = self.checkpoint_manager.latest_checkpoint
    return int(self.trainer.global_step.numpy()) if restored else None

  def _train_actions(
      self,
      controller: orbit.Controller,
      trainer: portions.Trainer,
      extra: list[orbit.Action],
  ) -> list[orbit.Action]:
    self._scheduled = list(self._make_scheduled(controller, trainer))
    for action in self._scheduled:
      action()
    # Checkpoints on preemption; the block that is hidden from it would add
    # TFMOT's pruning callbacks, and the field its recovery of lost losses.
    official = actions.get_train_actions(
        self.params.replace(
            task={'pruning': None}, trainer={'recovery_max_trials': -1}),
        trainer, self.model_dir, checkpoint_manager=self.checkpoint_manager)
    lost = nan_action.NanAction(
        trainer, self.params, self.checkpoint_manager, self._rewind)
    controller.before_saving = lost.before_saving
    return [lost, lambda _: replicas.equalize(trainer.model.variables),
            *extra, *self._scheduled, *official, self._progress]

  def _make_scheduled(
      self, controller: orbit.Controller, trainer: portions.Trainer):
    """Yields the actions that have to run after certain steps."""
    task = self.params.task
    if task.quantization is not None:
      yield freeze_action.FreezeAction(
          trainer.model, task.quantization, trainer.global_step,
          trainer.retrace)
    found = constraints.find(trainer.model)
    if found:
      yield constraint_action.ConstraintAction(
          found, trainer.global_step, trainer.optimizer,
          controller.summary_manager,
          self.params.trainer.summary_interval,
          lambda: self._task.reestimate_batch_norm(
              trainer.model, task.pruning.batch_norm_steps))
    steps = batch_norm_action.num_batches(task)
    if steps:
      yield batch_norm_action.BatchNormAction(
          trainer, self.params.trainer.train_steps,
          lambda: self._task.reestimate_batch_norm(trainer.model, steps))

  @property
  def _steps_per_loop(self) -> Callable[[int], int]:
    """Loops end at multiples of the intervals and where an action is due."""
    config = self.params.trainer

    def steps(step) -> int:
      step = int(step)
      until = (a.steps_until_next(step) for a in self._scheduled)
      return min([
          controller_lib.until_multiple(step, config.steps_per_loop),
          controller_lib.until_multiple(step, config.checkpoint_interval),
          *(u for u in until if u is not None)])

    return steps

  def run(self):
    """Runs the mode that the runner was built for.

    Returns:
      The model and the last metrics of an evaluation (empty for `train`).
    """
    config = self.params.trainer
    trains = 'train' in self._mode and self._trains
    shown = self._progress.shown() if trains else contextlib.nullcontext()
    logs = None
    with self.strategy.scope(), shown, stopping.deferrable():
      if 'train' in self._mode and not trains:
        logs = self._run_without_training()
      elif self._mode == 'train':
        self.controller.train(steps=config.train_steps)
      elif self._mode == 'train_and_eval':
        logs = self.controller.train_and_evaluate(
            train_steps=config.train_steps,
            eval_steps=config.validation_steps,
            eval_interval=config.validation_interval,
            evaluated=self._evaluated)
      elif self._mode == 'eval':
        logs = self.controller.evaluate(steps=config.validation_steps)
      else:
        logs = self.controller.evaluate_continuously(
            steps=config.validation_steps,
            timeout=config.continuous_eval_timeout,
            timeout_fn=lambda: bool(
                self.trainer.global_step.numpy() >= config.train_steps))
    return self.trainer.model, logs or {}

  def _evaluated(self, step: int) -> bool:
    """Whether an evaluation at a step is on record."""
    return bool(workers.of_chief(
        self.strategy, metrics.evaluated(self.model_dir, step)
        if workers.is_chief(self.strategy) else False))

  @property
  def _trains(self) -> bool:
    """Whether the model is trained at all, see `configs.quantization`."""
    quantization = self.params.task.quantization
    return quantization is None or quantization.training

  def _run_without_training(self) -> Mapping[str, Any] | None:
    """Keeps the model that was initialized, and evaluates it once.

    Returns:
      The metrics, None if there was nothing to evaluate.
    """
    if self._resumed_at is None:
      print('train | quantization.training is false: trainer.train_steps '
            f'{self.params.trainer.train_steps} is ignored', flush=True)
      self.controller.save_checkpoint()
    if self._mode == 'train_and_eval' and not self._evaluated(0):
      return self.controller.evaluate(
          steps=self.params.trainer.validation_steps)
    print(f'train | {self.model_dir} is complete', flush=True)
    return None


EVALUATING_MODES = ('eval', 'continuous_eval')
