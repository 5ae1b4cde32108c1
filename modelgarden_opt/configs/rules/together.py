"""Rules of techniques together, and of what goes with all of them."""

from collections.abc import Iterator

from modelgarden_opt import techniques
from modelgarden_opt.configs.rules import pruning as pruning_rules
from modelgarden_opt.configs.rules import quantization as quantization_rules
from modelgarden_opt.configs.rules import rule


@rule.reads('task.clustering.rules', 'task.quantization.rules')
def _clusters_stay_together(c: rule.View) -> Iterator[rule.Found]:
  block = c.task.quantization
  for name in ('fold_batch_norm', 'cross_layer_equalization'):
    if getattr(block, name):
      yield f'task.quantization.{name}', (
          'scales the channels of a kernel by different factors, which takes '
          'clusters apart; received true with clustering, use false')
  if quantization_rules.rounds_adaptively(block):
    yield 'task.quantization.rounding', (
        'adaround rounds weights of one cluster differently; use nearest with '
        'clustering')
  if block.oscillation == 'freeze':
    yield 'task.quantization.oscillation', (
        'freeze would take single weights out of their clusters; use dampen or '
        'none with clustering')


@rule.reads('task.pruning.pruning_schedule', 'task.pruning.granularity')
def _zeros_are_made_before(c: rule.View) -> Iterator[rule.Found]:
  block = c.task.pruning
  if block.granularity == 'weight' and c.task.clustering is not None and (
      block.pruning_schedule != pruning_rules.PRESERVE):
    yield ('must be Preserve with clustering, received '
           f'{block.pruning_schedule!r}; prune in a separate run, and start '
           'from its checkpoint')


@rule.reads('trainer.optimizer_config.ema.trainable_weights_only', 'task')
def _averages_of_what_has_one(c: rule.View) -> Iterator[rule.Found]:
  quantization = c.task.quantization
  counts = quantization is not None and quantization.oscillation != 'none'
  if not c.trainer.optimizer_config.ema.trainable_weights_only and (
      counts or c.task.pruning is not None or c.task.clustering is not None):
    yield ('must be true with pruning, clustering and oscillation, received '
           'false: masks, tables and integers have no average')


def _something_is_left(name: str) -> rule.Rule:
  """Returns the rule that the rules of a block do not except every layer."""
  @rule.reads(f'task.{name}.rules')
  def check(c: rule.View) -> Iterator[rule.Found]:
    excepted = None
    for index, entry in enumerate(getattr(c.task, name).rules or ()):
      if entry.enabled:
        excepted = None
      elif entry.enabled is False and (
          entry.path, entry.layer_type) == ('*', '*'):
        excepted = index
    if excepted is not None:
      yield f'task.{name}.rules[{excepted}]', (
          f'switches {name} off in every layer; set {name}: null, or give the '
          'rule a path')

  return check


@rule.reads('task.distillation.weight', 'task.distillation.features')
def _the_teacher_teaches(c: rule.View) -> Iterator[rule.Found]:
  block = c.task.distillation
  if not block.teacher:
    yield 'task.distillation.teacher', (
        'must name a run directory or a checkpoint, received '
        f'{block.teacher!r}')
  if not block.weight and not (block.features and block.feature_weight):
    yield ('0 without features teaches nothing; use 0.5, or name features')
  if c.task.train_data is not None and c.task.train_data.is_multilabel:
    yield 'task.distillation', (
        'cannot be combined with train_data.is_multilabel: its labels are no '
        'distribution')


@rule.reads('task.name')
def _the_experiment(c: rule.View) -> Iterator[rule.Found]:
  base = c.base.task.name if c.base is not None else None
  if base and c.task.name != base:
    yield (f'is the experiment, {base!r}, and written by the program, received '
           f'{c.task.name!r}; leave it out')


RULES = (
    _the_experiment,
    _clusters_stay_together, _zeros_are_made_before, _averages_of_what_has_one,
    *(_something_is_left(name) for name in techniques.TECHNIQUES),
    _the_teacher_teaches)
