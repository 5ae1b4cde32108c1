"""A candidate as the YAML of a pipeline that anybody can run."""

import collections
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import glob
import os
from typing import Any

from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import overrides
from modelgarden_opt.recipes import recipe
from modelgarden_opt.search import space
from modelgarden_opt.tasks import run_directory

# Names of the stages of a trial.
FLOAT, ZEROS, TRIAL = 'float', 'zeros', 'trial'
_CALIBRATION_STEPS = 16
# Masks have their final sparsity after this share of the steps, and are set so
# many times until then.
_PRUNED_AFTER, _SETTINGS = 0.6, 12
_CHECKPOINTS, _WARMUP = 4, 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How candidates are made, the same for all of them.

  Attributes:
    model_dir: Directory of the float run.
    train_steps: Steps of fine-tuning; 0 for calibration alone.
    learning_rate: Its peak; None for an eighth of the float training's.
    seed: Of the training data; None for the float training's.
    io_dtype: Type of input and output of the files.
    runtime: See `export --runtime`.
  """
  model_dir: str
  train_steps: int = 0
  learning_rate: float | None = None
  seed: int | None = None
  io_dtype: str = 'float32'
  runtime: str = 'xnnpack'


class Writer:
  """Writes candidates of one float run."""

  def __init__(self, settings: Settings):
    """Reads the configuration of the run.

    Raises:
      UsageError: If there is no such run.
    """
    self._settings = settings
    params = run_directory.load_params(settings.model_dir)
    self._experiment = catalog.EXPERIMENTS[params.task.name]
    base = overrides.base(params.task.name)
    base.task.name = params.task.name
    values = run_directory.as_plain(params)
    changed = difference(run_directory.as_plain(base), values)
    changed.get('task', {}).pop('init_checkpoint', None)
    changed.get('task', {}).pop('init_checkpoint_modules', None)
    self._all = changed
    self._rate = _rate(values['trainer']['optimizer_config']['learning_rate'])
    self._seed = settings.seed
    if self._seed is None:
      self._seed = values['task']['train_data'].get('seed')
    if self._seed is None:
      self._seed = 0

  def of_float(self, split: str) -> dict[str, Any]:
    """Returns the pipeline that exports and evaluates the float run."""
    return {**self._frame([FLOAT, 'export', 'evaluate'], split),
            FLOAT: self._run(['float32'])}

  def of(
      self, candidate: space.Candidate, split: str, whole: bool = False
  ) -> dict[str, Any]:
    """Returns the pipeline that makes and judges a candidate.

    Args:
      candidate: The candidate.
      split: Images to judge it on.
      whole: Whether it also exports the float model, measures latency and
        writes a report.
    """
    stages = [FLOAT, TRIAL, 'export', 'evaluate']
    zeros = self._zeros(candidate) if _combines(candidate) else None
    if zeros:
      stages.insert(1, ZEROS)
    frame = self._frame(
        stages + ['benchmark', 'report'] * whole, split)
    trial: dict[str, Any] = {
        'kind': 'qat', 'from': ZEROS if zeros else FLOAT, 'formats': ['int8'],
        'task': self._task(candidate), **self._training(candidate)}
    return {**frame, FLOAT: self._run(['float32'] * whole),
            **({ZEROS: zeros} if zeros else {}), TRIAL: trial}

  def _zeros(self, candidate: space.Candidate) -> dict[str, Any]:
    """Returns the stage that prunes, whose zeros stay when clusters are made.

    Without training it is a calibration of one step, which nobody reads.
    """
    steps = self.steps(candidate)
    task: dict[str, Any] = {
        'train_data': self._data(), 'pruning': _pruning(candidate, steps)}
    if not steps:
      task['quantization'] = {'training': False, 'calibration_steps': 1}
    return {'kind': 'prune' if steps else 'qat', 'from': FLOAT, 'formats': [],
            'task': task, **self._training(candidate)}

  def _training(self, candidate: space.Candidate) -> dict[str, Any]:
    """Returns the fields of a stage that is fine-tuned, {} without steps."""
    if not self._settings.train_steps:
      return {}
    return {'trainer': self._trainer(self.steps(candidate)),
            **({'teacher': FLOAT} if candidate.family.teacher else {})}

  def _data(self) -> dict[str, Any]:
    return {'seed': self._seed, 'deterministic': True}

  def steps(self, candidate: space.Candidate) -> int:
    """Returns the steps that a candidate is fine-tuned for."""
    return candidate.times * self._settings.train_steps

  def _frame(self, stages: Sequence[str], split: str) -> dict[str, Any]:
    options = {'io_dtype': self._settings.io_dtype,
               'runtime': self._settings.runtime}
    default = Settings(model_dir='')
    options = {name: value for name, value in options.items()
               if value != getattr(default, name)}
    return {'model': self._experiment.model, 'stages': list(stages),
            'all': self._all, 'evaluate': {'split': split},
            **({'export': options} if options else {})}

  def _run(self, formats: list[str]) -> dict[str, Any]:
    path = self._settings.model_dir
    return {'run': path if '://' in path else os.path.abspath(path),
            'formats': formats}

  def _task(self, candidate: space.Candidate) -> dict[str, Any]:
    task: dict[str, Any] = {
        'train_data': self._data(),
        'quantization': _quantization(candidate, self.steps(candidate))}
    if candidate.family.keep < 1.0:
      task['pruning'] = {
          'granularity': 'channel', 'keep_ratio': candidate.family.keep,
          'importance': 'batch_norm', 'batch_norm_steps': 8}
    elif _combines(candidate):
      task['pruning'] = {'pruning_schedule': 'Preserve', 'rules': _rules(
          candidate, lambda choice: {'enabled': choice.sparsity > 0})}
    elif any(choice.sparsity for choice in candidate.layers.values()):
      task['pruning'] = _pruning(candidate, self.steps(candidate))
    if any(choice.clusters for choice in candidate.layers.values()):
      task['clustering'] = _clustering(candidate)
    return task

  def _trainer(self, steps: int) -> dict[str, Any]:
    warmup = int(_WARMUP * steps)
    rate = self._settings.learning_rate or (
        self._rate * recipe.FINE_TUNING_RATE)
    return {
        'train_steps': steps, 'summary_interval': steps,
        'checkpoint_interval': max(1, steps // _CHECKPOINTS),
        'validation_interval': steps,
        'steps_per_loop': max(1, steps // _CHECKPOINTS),
        'optimizer_config': {
            'learning_rate': {'type': 'cosine', 'cosine': {
                'initial_learning_rate': rate, 'decay_steps': steps}},
            'warmup': {'type': 'linear', 'linear': {
                'warmup_learning_rate': 0, 'warmup_steps': warmup}}
                      if warmup else {'type': None}}}


def difference(
    below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields of one configuration that another does not have so."""
  found = {}
  for name, value in above.items():
    if name == 'name' and value == below.get(name):
      continue
    before = below.get(name)
    if isinstance(value, Mapping) and isinstance(before, Mapping):
      value = difference(before, value)
      if value:
        found[name] = value
    elif value != before:
      found[name] = value
  return found


def _rate(schedule: Mapping[str, Any]) -> float:
  """Returns the highest rate of a schedule of a float training."""
  block = schedule[schedule['type']]
  rates = block.get('values') or [
      block.get('initial_learning_rate') or block.get('learning_rate')]
  return max(rates)


def _quantization(
    candidate: space.Candidate, train_steps: int) -> dict[str, Any]:
  """Returns the block of a candidate."""
  block: dict[str, Any] = {'calibration_steps': _CALIBRATION_STEPS}
  clustered = any(c.clusters for c in candidate.layers.values())
  if not train_steps:
    block['training'] = False
  if candidate.family.granularity == space.PER_TENSOR:
    block |= {'weight_granularity': space.PER_TENSOR, 'fold_batch_norm': True}
    if train_steps:  # Or training would make the scales differ again.
      block['freeze_batch_norm_step'] = 0
  if space.LOW_BITS in candidate.bits:
    block['weight_range'] = 'learned' if train_steps else 'mse'
    if not train_steps and not clustered:
      block |= {'rounding': 'adaround', 'bias_correction': True}
  mixed = {'enabled': True} if space.FLOAT_BITS in candidate.bits else {}
  rules = _rules(candidate, lambda choice: (
      {'enabled': False} if choice.bits == space.FLOAT_BITS
      else {**mixed, 'num_bits_weight': choice.bits}))
  if rules != [{'path': '*', 'num_bits_weight': space.BITS}]:
    block['rules'] = rules
  return block


def _combines(candidate: space.Candidate) -> bool:
  """Whether a candidate has zeros and clusters, in whichever layers."""
  choices = candidate.layers.values()
  return any(choice.sparsity for choice in choices) and any(
      choice.clusters for choice in choices)


def _pruning(candidate: space.Candidate, train_steps: int) -> dict[str, Any]:
  """Returns the block of a candidate whose single weights are pruned."""
  shares = collections.Counter(
      c.sparsity for c in candidate.layers.values() if c.sparsity)
  most = shares.most_common(1)[0][0]
  end = int(_PRUNED_AFTER * train_steps)
  return {
      'final_sparsity': most, 'end_step': end,
      'frequency': max(1, end // _SETTINGS),
      'rules': _rules(candidate, lambda choice: (
          {'enabled': True, 'final_sparsity': choice.sparsity}
          if choice.sparsity else {'enabled': False}))}


def _clustering(candidate: space.Candidate) -> dict[str, Any]:
  """Returns the block of a candidate with clusters."""
  numbers = collections.Counter(
      c.clusters for c in candidate.layers.values() if c.clusters)
  return {
      'number_of_clusters': numbers.most_common(1)[0][0],
      **({'preserve_sparsity': True} if _combines(candidate) else {}),
      'rules': _rules(candidate, lambda choice: (
          {'enabled': True, 'number_of_clusters': choice.clusters}
          if choice.clusters else {'enabled': False}))}


def _rules(
    candidate: space.Candidate,
    fields_of: Callable[[space.Choice], dict[str, Any]],
) -> list[dict[str, Any]]:
  """Returns what most layers have as the first rule, then the exceptions."""
  by_path = {path: fields_of(choice)
             for path, choice in candidate.layers.items()}
  counts = collections.Counter(
      tuple(fields.items()) for fields in by_path.values())
  most = dict(counts.most_common(1)[0][0])
  return [{'path': '*', **most}, *(
      {'path': glob.escape(path), **fields}
      for path, fields in by_path.items() if fields != most)]
