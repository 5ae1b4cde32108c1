"""Pruning as a technique: parameters and rules to masks by path."""

from collections.abc import Iterable
import dataclasses
from typing import Any

from modelgarden_opt.compression import rules as rules_lib
from modelgarden_opt.compression.pruning import mask
from modelgarden_opt.compression.pruning import schedules

_SCHEDULE_FIELDS = tuple(
    f.name for f in dataclasses.fields(schedules.Schedule) if f.name != 'name')


@dataclasses.dataclass
class Decision:
  """What is done with one kernel, for the plan that a user reads.

  Attributes:
    path: The layer's path.
    layer_type: Class name of the float layer.
    mask: The mask, None to leave the kernel dense.
    reason: Why it is left dense, empty otherwise.
  """
  path: str
  layer_type: str
  mask: mask.PruningMask | None
  reason: str = ''


class Pruning:
  """Makes the masks of one model, and remembers what it decided."""

  name = 'pruning'

  def __init__(
      self,
      rules: Iterable[rules_lib.Rule] = (),
      *,
      policy: str = 'default',
      sparsity_m_by_n: tuple[int, int] | None = None,
      block_size: tuple[int, int] = (1, 1),
      block_pooling_type: str = 'AVG',
      **schedule: Any,
  ):
    """Initializes the technique.

    Args:
      rules: Overrides by path or layer type of the schedule's fields, and
        `enabled: false` (dense) or `true` (pruned whatever the policy says).
      policy: `default` prunes convolutions and dense layers, `all` depthwise
        kernels as well, `pointwise` 1x1 convolutions only.
      sparsity_m_by_n: (m, n) for N:M sparsity.
      block_size: Blocks that are pruned together.
      block_pooling_type: `AVG` or `MAX`.
      **schedule: Fields of `schedules.Schedule`, its name as
        `pruning_schedule`.
    """
    self._policy = policy
    self._m_by_n = sparsity_m_by_n
    self._blocks = {
        'block_size': block_size, 'block_pooling_type': block_pooling_type}
    self._rules = rules_lib.Rules(rules, enabled=None, **schedule)
    self.decisions: list[Decision] = []

  def transform(
      self, path: str, layer_type: str, shape: tuple[int, ...]
  ) -> mask.PruningMask | None:
    """Returns the mask of the kernel at `path`, None to leave it dense."""
    parameters = self._rules.resolve(path, layer_type)
    enabled = parameters.pop('enabled')
    reason = self._reason_for_dense(enabled, layer_type, shape)
    result = None if reason else mask.PruningMask(
        schedules.Schedule(
            name=parameters['pruning_schedule'],
            **{name: parameters[name] for name in _SCHEDULE_FIELDS}),
        self._m_by_n, **self._blocks)
    self.decisions.append(Decision(path, layer_type, result, reason))
    return result

  def _reason_for_dense(self, enabled, layer_type, shape) -> str:
    if enabled is False:
      return 'a rule leaves it dense'
    if self._m_by_n:
      n = self._m_by_n[1]
      if layer_type == 'DepthwiseConv2D':
        return 'a depthwise kernel has one input channel'
      inputs = shape[-2] if len(shape) > 1 else 1
      if inputs % n:
        return f'{inputs} input channels are no multiple of {n}'
    if enabled:
      return ''
    if self._policy == 'pointwise' and (
        layer_type != 'Conv2D' or tuple(shape[:2]) != (1, 1)):
      return 'policy pointwise prunes 1x1 convolutions only'
    if self._policy == 'default' and layer_type == 'DepthwiseConv2D':
      return 'policy default leaves depthwise kernels dense'
    return ''

  def assert_all_rules_matched(self) -> None:
    """Raises `ValueError` if a rule matched no layer or nothing is pruned."""
    self._rules.assert_all_matched()
    if not any(decision.mask for decision in self.decisions):
      raise ValueError('no kernel is pruned: ' + '; '.join(sorted({
          d.reason for d in self.decisions})))
