"""Rules of the `clustering:` block."""

from collections.abc import Iterator

from modelgarden_opt.configs.rules import rule

_BLOCK = 'task.clustering'


@rule.reads(f'{_BLOCK}.number_of_clusters', f'{_BLOCK}.preserve_sparsity',
            f'{_BLOCK}.rules')
def _zero_and_two_more(c: rule.View) -> Iterator[rule.Found]:
  block = c.task.clustering
  if not block.preserve_sparsity:
    return
  numbers = [('', block.number_of_clusters), *(
      (f'rules[{index}].', entry.number_of_clusters)
      for index, entry in enumerate(block.rules or ()))]
  for prefix, value in numbers:
    if value is not None and value < 3:
      yield f'{_BLOCK}.{prefix}number_of_clusters', (
          'must lie in 3 to 256 with preserve_sparsity, where zero is one of '
          f'them, received {value}')


RULES = (_zero_and_two_more,)
