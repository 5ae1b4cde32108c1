"""The `pruning:` block of a task."""

from collections.abc import Sequence
import dataclasses

from official.modeling import hyperparams

from modelgarden_opt.configs import block
from modelgarden_opt.configs.rules import pruning as rules
from modelgarden_opt.configs.schema import fields

PRESERVE = rules.PRESERVE
GRANULARITIES = ('weight', 'channel')
POLICIES = ('default', 'all', 'pointwise')
POOLINGS = ('AVG', 'MAX')
IMPORTANCES = ('magnitude', 'batch_norm', 'taylor')
GRANULARITIES = ('weight', 'channel')
POLICIES = ('default', 'all', 'pointwise')
POOLINGS = ('AVG', 'MAX')
IMPORTANCES = ('magnitude', 'batch_norm', 'taylor')
# Users register schedules and costs of their own.
_SCHEDULES = {
    'choices': ('PolynomialDecay', 'ConstantSparsity', PRESERVE),
    'registry': 'modelgarden_opt.compression.pruning.schedules:SCHEDULES'}
_TARGETS = {
    'choices': ('flops', 'params', 'latency'),
    'registry': 'modelgarden_opt.modeling.channel_pruning.costs:COSTS'}
_STEP = {'range': '>= 0', 'unit': 'steps'}
_STEPS = {'range': '>= 1', 'unit': 'steps'}
_SHARE = {'range': '[0, 1)'}


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
  pruning_schedule: str | None = fields.field(None, **_SCHEDULES)
  begin_step: int | None = fields.field(None, **_STEP)
  end_step: int | None = fields.field(None, **_STEP)
  initial_sparsity: float | None = fields.field(None, **_SHARE)
  final_sparsity: float | None = fields.field(None, **_SHARE)
  power: float | None = fields.field(None, range='> 0')
  frequency: int | None = fields.field(None, **_STEPS)


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
  pruning_schedule: str = fields.field('PolynomialDecay', **_SCHEDULES)
  begin_step: int = fields.field(0, **_STEP)
  end_step: int = fields.field(1000, **_STEP)
  initial_sparsity: float = fields.field(0.0, **_SHARE)
  final_sparsity: float | None = fields.field(None, **_SHARE)
  frequency: int = fields.field(100, **_STEPS)
  sparsity_m_by_n: tuple[int, int] | None = fields.field(
      None, range='1 to 1024')
  power: float = fields.field(3.0, range='> 0')
  block_size: tuple[int, int] = fields.field((1, 1), range='1 to 65536')
  block_pooling_type: str = fields.field('AVG', choices=POOLINGS)
  policy: str = fields.field('default', choices=POLICIES)
  rules: list[PruningRule] = dataclasses.field(default_factory=list)
  granularity: str = fields.field('weight', choices=GRANULARITIES)
  target: str = fields.field('flops', **_TARGETS)
  keep_ratio: float = fields.field(0.5, range='(0, 1)')
  importance: str = fields.field('magnitude', choices=IMPORTANCES)
  importance_steps: int = fields.field(8, range='>= 1', unit='batches')
  channel_multiple: int = fields.field(8, range='1 to 65536')
  batch_norm_steps: int = fields.field(0, range='>= 0', unit='batches')

  @property
  def of_channels(self) -> bool:
    """Whether channels are removed, and not weights."""
    return self.granularity == 'channel'

  @property
  def target_sparsity(self) -> float:
    """The final sparsity, whatever it is derived from."""
    return rules.target_sparsity(self)

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


def _with_defaults(rule: PruningRule, block: Pruning) -> PruningRule:
  """Returns a rule with the block's value wherever it has none."""
  return rule.replace(**{
      name: (block.target_sparsity if name == 'final_sparsity'
             else getattr(block, name))
      for name, value in rule.as_dict().items()
      if value is None and hasattr(block, name)})
