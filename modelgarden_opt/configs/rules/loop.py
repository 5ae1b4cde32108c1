"""Rules of `trainer:` and `runtime:`."""

from collections.abc import Iterator
import difflib
import re

from modelgarden_opt.configs.rules import rule

_RATE = 'trainer.optimizer_config.learning_rate'
_WARMUP = 'trainer.optimizer_config.warmup'
# Schedules whose rate is this field's value after the last step that this
# other field gives.
_ENDS = {'cosine': ('alpha', 'decay_steps'),
         'polynomial': ('end_learning_rate', 'decay_steps'),
         'power_linear': (None, 'total_decay_steps')}
# Fields of a schedule that must not be null where it is chosen.
_NEEDED = {
    'exponential': ('initial_learning_rate', 'decay_steps', 'decay_rate'),
    'polynomial': ('initial_learning_rate', 'decay_steps'),
    'cosine': ('initial_learning_rate', 'decay_steps'),
    'power': ('initial_learning_rate',),
    'power_linear': ('initial_learning_rate', 'total_decay_steps'),
    'power_with_offset': ('initial_learning_rate',),
    'stepwise': ('boundaries', 'values'),
    'step_cosine_with_offset': ('boundaries', 'values'),
}
# Metrics of evaluations, by fields that only one task has.
_METRICS = {
    'head': (r'mean_iou|iou/\d+|validation_loss|mask_scores_mse',
             ('mean_iou', 'validation_loss')),
    None: (r'accuracy|top_\d+_accuracy|validation_loss|globalPR-AUC|'
           r'meanPR-AUC|(precision|recall)_at_threshold_.*',
           ('accuracy', 'top_{top_k}_accuracy', 'validation_loss'))}


def _chosen(block: rule.View) -> rule.View | None:
  return getattr(block, block.type) if block.type else None


def _trains(c: rule.View) -> bool:
  quantization = c.task.quantization if c.task is not None else None
  return quantization is None or quantization.training is not False


@rule.reads('trainer.train_steps', _RATE)
def _no_step_at_rate_0(c: rule.View) -> Iterator[rule.Found]:
  rate = c.trainer.optimizer_config.learning_rate
  if rate.type not in _ENDS or not _trains(c):
    return
  at_end, length = _ENDS[rate.type]
  schedule = _chosen(rate)
  last, steps = getattr(schedule, length), c.trainer.train_steps
  if last is None or schedule.cycle or at_end and getattr(schedule, at_end):
    return
  last += schedule.offset or 0
  if steps > last:
    yield (f'{steps} is after learning_rate.{rate.type}.{length} {last}, so '
           f'{steps - last} steps would train at rate 0; raise {length} or '
           'lower train_steps')


@rule.reads(_RATE)
def _a_whole_schedule(c: rule.View) -> Iterator[rule.Found]:
  rate = c.trainer.optimizer_config.learning_rate
  if rate.type is None:
    yield f'{_RATE}.type', 'must name a schedule, received null'
    return
  schedule = _chosen(rate)
  missing = [name for name in _NEEDED.get(rate.type, ())
             if getattr(schedule, name) is None]
  for name in missing:
    yield f'{_RATE}.{rate.type}.{name}', (
        f'must be set with type: {rate.type}, received null')
  if not missing and schedule.boundaries is not None:
    yield from _steps_of(schedule, f'{_RATE}.{rate.type}', rate.type)


def _steps_of(schedule, path: str, kind: str) -> Iterator[rule.Found]:
  """Checks a schedule that is a list of boundaries and values."""
  boundaries, values = schedule.boundaries, schedule.values
  more = kind == 'stepwise'
  if len(values) != len(boundaries) + more:
    yield f'{path}.values', (
        f'must have {"one more element than" if more else "as many as"} '
        f'boundaries ({len(boundaries)}), received {len(values)}')
  if any(a >= b for a, b in zip(boundaries, boundaries[1:])):
    yield f'{path}.boundaries', (
        f'must be steps one after the other, received {boundaries}')
  if not boundaries:
    yield f'{path}.boundaries', 'must have an element, received []'


@rule.reads(_WARMUP, 'trainer.train_steps')
def _warmup_ends(c: rule.View) -> Iterator[rule.Found]:
  warmup = c.trainer.optimizer_config.warmup
  schedule = _chosen(warmup)
  if schedule is None or not _trains(c):
    return
  field = f'{_WARMUP}.{warmup.type}.warmup_steps'
  if schedule.warmup_steps is None:
    yield field, f'must be set with type: {warmup.type}, received null'
  elif schedule.warmup_steps > c.trainer.train_steps:
    steps = c.trainer.train_steps
    yield field, (
        f'{schedule.warmup_steps} is after trainer.train_steps {steps}, so the '
        f'learning rate would not be reached; use {max(1, steps // 20)} (5 % '
        'of the steps), or warmup: {type: null}')


@rule.reads('trainer.optimizer_config.optimizer.type')
def _an_optimizer(c: rule.View) -> Iterator[rule.Found]:
  if c.trainer.optimizer_config.optimizer.type is None:
    yield 'must name an optimizer, received null'


@rule.reads('trainer.validation_steps')
def _evaluations_of_something(c: rule.View) -> Iterator[rule.Found]:
  if c.trainer.validation_steps == 0:
    yield 'must be >= 1, or -1 for all batches, received 0'


@rule.reads('trainer.best_checkpoint_eval_metric', 'task.model')
def _metrics_that_there_are(c: rule.View) -> Iterator[rule.Found]:
  name = c.trainer.best_checkpoint_eval_metric
  pattern, names = _METRICS['head' if c.task.model.head else None]
  if not name or re.fullmatch(pattern, name):
    return
  top_k = c.task.evaluation.top_k if c.task.evaluation else 5
  names = [known.format(top_k=top_k) for known in names]
  close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
  yield (f'must be one of {", ".join(names)}, received {name!r}'
         + (f'; did you mean {close[0]!r}?' if close else ''))


@rule.reads('trainer.best_checkpoint_export_subdir',
            'trainer.validation_summary_subdir')
def _directories_of_their_own(c: rule.View) -> Iterator[rule.Found]:
  best = c.trainer.best_checkpoint_export_subdir
  if best and best == c.trainer.validation_summary_subdir:
    yield f'must be another one than validation_summary_subdir {best!r}'


@rule.reads('runtime.num_logical_cpus', 'runtime.num_gpus',
            'runtime.distribution_strategy')
def _logical_cpus(c: rule.View) -> Iterator[rule.Found]:
  runtime = c.runtime
  if runtime.num_logical_cpus == 1:
    return
  if runtime.num_gpus:
    yield (f'cannot be combined with num_gpus {runtime.num_gpus}; leave one of '
           'them out')
  elif runtime.distribution_strategy != 'mirrored':
    yield ('needs distribution_strategy: mirrored, received '
           f'{runtime.distribution_strategy!r}')


@rule.reads('runtime.gradient_accumulation_steps',
            'runtime.mixed_precision_dtype')
def _accumulated_unscaled(c: rule.View) -> Iterator[rule.Found]:
  parts = c.runtime.gradient_accumulation_steps
  if parts != 1 and c.runtime.mixed_precision_dtype == 'float16':
    yield ('must be 1 with mixed_precision_dtype: float16, whose loss scale '
           f'knows whole batches only, received {parts}; use bfloat16')


@rule.reads('runtime.num_gpus', 'runtime.distribution_strategy')
def _one_device(c: rule.View) -> Iterator[rule.Found]:
  name = c.runtime.distribution_strategy
  if c.runtime.num_gpus > 1 and name in ('off', 'one_device'):
    yield (f"must be at most 1 with distribution_strategy '{name}', received "
           f'{c.runtime.num_gpus}; use mirrored')


@rule.reads('runtime.all_reduce_alg', 'runtime.distribution_strategy')
def _all_reduce(c: rule.View) -> Iterator[rule.Found]:
  choices = {'mirrored': ('nccl', 'hierarchical_copy'),
             'multi_worker_mirrored': ('nccl', 'ring')}.get(
                 c.runtime.distribution_strategy)
  given = c.runtime.all_reduce_alg
  if choices and given is not None and given not in choices:
    yield (f'must be one of {", ".join(choices)} with distribution_strategy: '
           f'{c.runtime.distribution_strategy}, received {given!r}')


@rule.reads('runtime.mixed_precision_dtype', 'trainer.optimizer_config.ema')
def _averages_without_loss_scale(c: rule.View) -> Iterator[rule.Found]:
  if c.runtime.mixed_precision_dtype == 'float16' and (
      c.trainer.optimizer_config.ema is not None):
    yield ("'float16' cannot be combined with moving averages of the weights "
           "(trainer.optimizer_config.ema), which the Model Garden does not "
           'find inside of loss scaling; use bfloat16 or ema: null')


@rule.reads('runtime.enable_xla', 'runtime.num_logical_cpus',
            'runtime.num_gpus', 'runtime.distribution_strategy')
def _xla_of_one_replica(c: rule.View) -> Iterator[rule.Found]:
  runtime = c.runtime
  several = runtime.num_logical_cpus > 1 or not runtime.num_gpus and (
      runtime.distribution_strategy == 'multi_worker_mirrored')
  if runtime.enable_xla and several:
    yield ('cannot be true with several replicas on CPUs, which add their '
           'gradients outside of what XLA compiles; use false')


RULES = (
    _no_step_at_rate_0, _a_whole_schedule, _warmup_ends, _an_optimizer,
    _evaluations_of_something, _metrics_that_there_are,
    _directories_of_their_own, _logical_cpus,
    _accumulated_unscaled, _one_device, _all_reduce,
    _averages_without_loss_scale, _xla_of_one_replica)
