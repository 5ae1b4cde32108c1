"""Rules of the `pruning:` block."""

from collections.abc import Iterator
from typing import Any

from modelgarden_opt.configs.rules import rule

# In place of a schedule: the mask is that of the zeros of a checkpoint.
PRESERVE = 'Preserve'
# Fields of the block that one granularity reads and the other does not, with
# their defaults.
OF_WEIGHTS = {
    'pruning_schedule': 'PolynomialDecay', 'begin_step': 0, 'end_step': 1000,
    'initial_sparsity': 0.0, 'final_sparsity': None, 'frequency': 100,
    'sparsity_m_by_n': None, 'power': 3.0, 'block_size': [1, 1],
    'block_pooling_type': 'AVG', 'policy': 'default'}
OF_CHANNELS = {
    'target': 'flops', 'keep_ratio': 0.5, 'importance': 'magnitude',
    'importance_steps': 8, 'channel_multiple': 8}
_BLOCK = 'task.pruning'
# Fields of rules that stand for those of the block.
_SCHEDULE = ('pruning_schedule', 'begin_step', 'end_step', 'initial_sparsity',
             'final_sparsity', 'power', 'frequency')


def target_sparsity(block: Any) -> float:
  """Returns the final sparsity of a block, whatever it is derived from."""
  if block.final_sparsity is not None:
    return block.final_sparsity
  if block.sparsity_m_by_n:
    return block.sparsity_m_by_n[0] / block.sparsity_m_by_n[1]
  return 0.5


def schedule_problems(
    values: Any, prefix: str = '') -> Iterator[tuple[str, str]]:
  """Yields what is wrong with a schedule: the field, and the text.

  Args:
    values: The fields of a schedule, none of them null.
    prefix: What the names of the fields begin with.
  """
  if values.end_step < values.begin_step:
    yield f'{prefix}end_step', (
        f'must be >= begin_step {values.begin_step}, received '
        f'{values.end_step}')
  # What is preserved has no schedule.
  if values.pruning_schedule != PRESERVE and (
      values.initial_sparsity > values.final_sparsity):
    yield f'{prefix}initial_sparsity', (
        f'must be <= final_sparsity {values.final_sparsity:g}, received '
        f'{values.initial_sparsity}')


def _schedules(block: rule.View) -> Iterator[tuple[str, rule.View]]:
  """Yields the schedules of the block and of its rules, and their prefixes."""
  of_block = {name: getattr(block, name) for name in _SCHEDULE}
  of_block['final_sparsity'] = target_sparsity(block)
  yield f'{_BLOCK}.', rule.View(of_block)
  for index, entry in enumerate(block.rules or ()):
    yield f'{_BLOCK}.rules[{index}].', rule.View({
        **of_block, 'enabled': entry.enabled,
        **{name: getattr(entry, name) for name in _SCHEDULE
           if getattr(entry, name) is not None}})


def _is_pair(values: Any) -> bool:
  return isinstance(values, list) and len(values) == 2


@rule.reads(f'{_BLOCK}.granularity')
def _only_fields_that_are_read(c: rule.View) -> Iterator[rule.Found]:
  block = c.task.pruning
  of_channels = block.granularity == 'channel'
  unread = OF_WEIGHTS if of_channels else OF_CHANNELS
  for name, default in unread.items():
    value = getattr(block, name)
    # Experiments that combine techniques start from preserved zeros.
    if value not in (default, PRESERVE):
      yield f'{_BLOCK}.{name}', (
          f'is not read with granularity: {block.granularity}, received '
          f'{value!r}; leave it out')
  for index, entry in enumerate(block.rules or () if of_channels else ()):
    for name, value in entry.plain.items():
      if name in OF_WEIGHTS and value is not None:
        yield f'{_BLOCK}.rules[{index}].{name}', (
            f'is not read with granularity: channel, received {value!r}; leave '
            'it out')


@rule.reads(*(f'{_BLOCK}.{name}' for name in (
    'begin_step', 'end_step', 'initial_sparsity', 'final_sparsity',
    'sparsity_m_by_n', 'pruning_schedule', 'rules')))
def _schedules_make_sense(c: rule.View) -> Iterator[rule.Found]:
  if c.task.pruning.granularity == 'weight':
    for prefix, schedule in _schedules(c.task.pruning):
      yield from schedule_problems(schedule, prefix)


@rule.reads(f'{_BLOCK}.end_step', f'{_BLOCK}.rules', 'trainer.train_steps')
def _the_schedule_ends_before_training(c: rule.View) -> Iterator[rule.Found]:
  block = c.task.pruning
  if block.granularity != 'weight' or not _trains(c):
    return
  last = max((schedule.end_step for _, schedule in _schedules(block)
              if schedule.enabled is not False
              and schedule.pruning_schedule != PRESERVE), default=0)
  if last > c.trainer.train_steps:
    yield (f'{last} is after trainer.train_steps {c.trainer.train_steps}, so '
           'the final sparsity would not be reached')


def _trains(c: rule.View) -> bool:
  quantization = c.task.quantization
  return quantization is None or quantization.training


@rule.reads(f'{_BLOCK}.sparsity_m_by_n', f'{_BLOCK}.final_sparsity',
            f'{_BLOCK}.block_size', f'{_BLOCK}.rules')
def _m_of_n(c: rule.View) -> Iterator[rule.Found]:
  block = c.task.pruning
  pair = block.sparsity_m_by_n
  if pair is None or block.granularity == 'channel':
    return
  if not _is_pair(pair) or not 0 < pair[0] < pair[1]:
    yield (f'm zeros among n weights, [m, n] with 0 < m < n, received {pair}')
    return
  share = pair[0] / pair[1]
  finals = [('', block.final_sparsity), *(
      (f'rules[{index}].', entry.final_sparsity)
      for index, entry in enumerate(block.rules or ()))]
  for prefix, value in finals:
    if value is not None and abs(value - share) > 1e-6:
      yield f'{_BLOCK}.{prefix}final_sparsity', (
          f'is m / n = {share:g} with sparsity_m_by_n {pair}, received '
          f'{value}; leave it out')
  if block.block_size != [1, 1]:
    yield f'{_BLOCK}.block_size', (
        'cannot be combined with sparsity_m_by_n, received '
        f'{block.block_size}')


RULES = (_only_fields_that_are_read, _schedules_make_sense,
         _the_schedule_ends_before_training, _m_of_n)
