"""The `pruning:` block of a task."""

from collections.abc import Sequence
import dataclasses
from typing import Any

from official.modeling import hyperparams

from modelgarden_opt.configs import block
from modelgarden_opt.configs import checks

# In place of a schedule: the mask is that of the zeros of a checkpoint.
PRESERVE = 'Preserve'
GRANULARITIES = ('weight', 'channel')
POLICIES = ('default', 'all', 'pointwise')
POOLINGS = ('AVG', 'MAX')
IMPORTANCES = ('magnitude', 'batch_norm', 'taylor')
# Fields of the block that one granularity reads and the other does not.
_OF_WEIGHTS = ('pruning_schedule', 'begin_step', 'end_step', 'initial_sparsity',
               'final_sparsity', 'frequency', 'sparsity_m_by_n', 'power',
               'block_size', 'block_pooling_type', 'policy')
_OF_CHANNELS = ('target', 'keep_ratio', 'importance', 'importance_steps',
                'channel_multiple')


@dataclasses.dataclass
class PruningRule(hyperparams.Config):
  """Overrides the block for some kernels; fields left out override nothing.

  Attributes:
    path: Glob over layer paths; `*` also crosses `/`.
    layer_type: Glob over class names of float layers, e.g. `DepthwiseConv2D`.
    enabled: False leaves the kernels dense, True prunes them whatever the
      policy says.
    pruning_schedule: As in the block, like all that follow.
    begin_step: First step at which the masks are set.
    end_step: Last step at which the masks are set.
    initial_sparsity: Share of zeros at `begin_step`.
    final_sparsity: Share of zeros from `end_step` on.
    power: Exponent of `PolynomialDecay`.
    frequency: Steps between two settings of the masks.
  """
  path: str = '*'
  layer_type: str = '*'
  enabled: bool | None = None
  pruning_schedule: str | None = None
  begin_step: int | None = None
  end_step: int | None = None
  initial_sparsity: float | None = None
  final_sparsity: float | None = None
  power: float | None = None
  frequency: int | None = None


@dataclasses.dataclass
class Pruning(block.Block):
  """Pruning; the first eight fields are the Model Garden's.

  Attributes:
    pruning_schedule: `PolynomialDecay`, `ConstantSparsity`, the name of a
      schedule that was registered in Python, or `Preserve`, which keeps the
      zeros of a pruned checkpoint.
    begin_step: First step at which the masks are set.
    end_step: Last step at which the masks are set; the final sparsity is
      reached there.
    initial_sparsity: Share of zeros at `begin_step`, in [0, 1).
    final_sparsity: Share of zeros from `end_step` on, in [0, 1); None means
      0.5, or m / n with `sparsity_m_by_n`.
    frequency: Steps between two settings of the masks.
    sparsity_m_by_n: (m, n): m zeros among n neighbouring input channels, which
      runtimes with N:M kernels can use.
    power: Exponent of `PolynomialDecay`.
    block_size: Height and width of the blocks that are pruned together, of a
      kernel as a matrix of [everything else, output channels]. No larger than
      that; the sparsity of a kernel is met to half a block.
    block_pooling_type: `AVG` or `MAX` magnitude of a block decides.
    policy: `default` prunes convolutions and dense layers, `all` depthwise
      kernels as well, `pointwise` 1x1 convolutions only.
    rules: Overrides by path or layer type; the last match wins.
    granularity: `weight` sets single weights (or blocks of them) to zero on a
      schedule. `channel` removes channels before the first step, so that the
      model is smaller and faster on every runtime; of the fields above it
      reads the checkpoint and, of rules, path and `enabled`.
    target: With `channel`: the cost that shrinks, `flops`, `params`, `latency`
      (of the float32 file, one thread, on this machine) or one registered in
      Python.
    keep_ratio: With `channel`: share of that cost that may be left, in (0, 1).
    importance: With `channel`: `magnitude`, `batch_norm` or `taylor`.
    importance_steps: Batches of training data for `taylor`, >= 1.
    channel_multiple: What numbers of channels are multiples of, >= 1.
    batch_norm_steps: Batches of training data from which batch normalization
      is estimated again once the model is pruned; 0 leaves its statistics.
  """
  pruning_schedule: str = 'PolynomialDecay'
  begin_step: int = 0
  end_step: int = 1000
  initial_sparsity: float = 0.0
  final_sparsity: float | None = None
  frequency: int = 100
  sparsity_m_by_n: tuple[int, int] | None = None
  power: float = 3.0
  block_size: tuple[int, int] = (1, 1)
  block_pooling_type: str = 'AVG'
  policy: str = 'default'
  rules: list[PruningRule] = dataclasses.field(default_factory=list)
  granularity: str = 'weight'
  target: str = 'flops'
  keep_ratio: float = 0.5
  importance: str = 'magnitude'
  importance_steps: int = 8
  channel_multiple: int = 8
  batch_norm_steps: int = 0

  @property
  def of_channels(self) -> bool:
    """Whether channels are removed, and not weights."""
    return self.granularity == 'channel'

  @property
  def target_sparsity(self) -> float:
    """The final sparsity, whatever it is derived from."""
    if self.final_sparsity is not None:
      return self.final_sparsity
    if self.sparsity_m_by_n:
      return self.sparsity_m_by_n[0] / self.sparsity_m_by_n[1]
    return 0.5

  @classmethod
  def beside(cls, techniques: Sequence[str]) -> 'Pruning':
    if len(techniques) > 1:  # The others preserve what was pruned before.
      return cls(pruning_schedule=PRESERVE)
    return cls()

  def last_step(self) -> int:
    """Returns the step at which every kernel has its final sparsity."""
    if self.of_channels:
      return 0
    scheduled = [_with_defaults(rule, self) for rule in self.rules
                 if rule.enabled is not False]
    return max((entry.end_step for entry in (self, *scheduled)
                if entry.pruning_schedule != PRESERVE), default=0)

  def problems(self, train_steps: int) -> list[str]:
    """Returns one line for every value that breaks a rule.

    Whether there is a schedule of the name shows when the model is built.

    Args:
      train_steps: `trainer.train_steps`.
    """
    found = checks.unless_one_of('granularity', self.granularity, GRANULARITIES)
    if self.batch_norm_steps < 0:
      found.append('batch_norm_steps: must be >= 0, received '
                   f'{self.batch_norm_steps}')
    found += self._fields_of_the_other_granularity()
    return found + (self._channel_problems() if self.of_channels else
                    self._weight_problems(train_steps))

  def _fields_of_the_other_granularity(self) -> list[str]:
    """Checks that nothing is set that would not be read."""
    default = Pruning()
    unread = _OF_WEIGHTS if self.of_channels else _OF_CHANNELS
    found = [
        f'{name}: is not read with granularity: {self.granularity}, received '
        f'{getattr(self, name)!r}; leave it out'
        for name in unread
        if not _equal(getattr(self, name), getattr(default, name))
        # What the experiments that combine techniques start from.
        and getattr(self, name) != PRESERVE]
    if self.of_channels:
      found += [
          f'rules[{index}].{name}: is not read with granularity: channel, '
          f'received {value!r}; leave it out'
          for index, rule in enumerate(self.rules)
          for name, value in rule.as_dict().items()
          if name in _OF_WEIGHTS and value is not None]
    return found

  def _channel_problems(self) -> list[str]:
    found = checks.unless_one_of('importance', self.importance, IMPORTANCES)
    if not 0.0 < self.keep_ratio < 1.0:
      found.append(
          f'keep_ratio: must lie in (0, 1), received {self.keep_ratio}')
    for name in ('importance_steps', 'channel_multiple'):
      if getattr(self, name) < 1:
        found.append(f'{name}: must be >= 1, received {getattr(self, name)}')
    return found

  def _weight_problems(self, train_steps: int) -> list[str]:
    found = checks.unless_one_of('policy', self.policy, POLICIES)
    found += checks.unless_one_of(
        'block_pooling_type', self.block_pooling_type, POOLINGS)
    if len(self.block_size) != 2 or min(self.block_size) < 1:
      found.append('block_size: must be two numbers >= 1, received '
                   f'{self.block_size}')
    found += self._m_by_n_problems()
    if self.sparsity_m_by_n is not None and len(self.sparsity_m_by_n) != 2:
      return found
    found += schedule_problems(self, '')
    for index, rule in enumerate(self.rules):
      found += schedule_problems(
          _with_defaults(rule, self), f'rules[{index}].')
    if self.last_step() > train_steps:
      found.append(
          f'end_step: {self.last_step()} is after trainer.train_steps '
          f'{train_steps}, so the final sparsity would not be reached')
    return found

  def _m_by_n_problems(self) -> list[str]:
    if self.sparsity_m_by_n is None:
      return []
    pair = list(self.sparsity_m_by_n)
    if len(pair) != 2 or not 0 < pair[0] < pair[1]:
      return ['sparsity_m_by_n: m zeros among n weights, [m, n] with '
              f'0 < m < n, received {pair}']
    share = pair[0] / pair[1]
    finals = [('', self.final_sparsity), *(
        (f'rules[{index}].', rule.final_sparsity)
        for index, rule in enumerate(self.rules))]
    found = [
        f'{prefix}final_sparsity: is m / n = {share:g} with sparsity_m_by_n '
        f'{pair}, received {value}; leave it out'
        for prefix, value in finals
        if value is not None and abs(value - share) > 1e-6]
    if tuple(self.block_size) != (1, 1):
      found.append('block_size: cannot be combined with sparsity_m_by_n, '
                   f'received {list(self.block_size)}')
    return found


def _equal(a: Any, b: Any) -> bool:
  """Compares values; a pair that was read from YAML is a list."""
  return a == b or (isinstance(a, list) and tuple(a) == b)


def _with_defaults(rule: PruningRule, block: Pruning) -> PruningRule:
  """Returns a rule with the block's value wherever it has none."""
  return rule.replace(**{
      name: (block.target_sparsity if name == 'final_sparsity'
             else getattr(block, name))
      for name, value in rule.as_dict().items()
      if value is None and hasattr(block, name)})


def schedule_problems(
    config: Pruning | PruningRule, prefix: str = '') -> list[str]:
  """Checks the fields that the block and its rules share.

  Args:
    config: The block, or a rule with the block's values where it has none.
    prefix: What the names of the fields begin with in messages.
  """
  found = []
  if config.begin_step < 0:
    found.append(f'{prefix}begin_step: must be >= 0, received '
                 f'{config.begin_step}')
  if config.end_step < config.begin_step:
    found.append(f'{prefix}end_step: must be >= begin_step '
                 f'{config.begin_step}, received {config.end_step}')
  if config.frequency < 1:
    found.append(f'{prefix}frequency: must be >= 1, received '
                 f'{config.frequency}')
  for name in ('initial_sparsity', 'final_sparsity'):
    value = getattr(config, name)
    if value is not None and not 0.0 <= value < 1.0:
      found.append(f'{prefix}{name}: must lie in [0, 1), received {value}')
  final = getattr(config, 'target_sparsity', config.final_sparsity)
  # N:M is checked by itself, and what is preserved has no schedule.
  if config.pruning_schedule != PRESERVE and config.initial_sparsity > final:
    found.append(f'{prefix}initial_sparsity: must be <= final_sparsity '
                 f'{final:g}, received {config.initial_sparsity}')
  return found
