"""Pruning as a technique: parameters and rules to masks by path."""

from collections.abc import Iterable
import dataclasses
import math
from typing import Any

from absl import logging
import numpy as np

from modelgarden_opt import errors
from modelgarden_opt.compression import kernels
from modelgarden_opt.compression import rules as rules_lib
from modelgarden_opt.compression.pruning import mask
from modelgarden_opt.compression.pruning import schedules
from modelgarden_opt.compression.pruning import selection
from modelgarden_opt.configs import pruning as pruning_cfg
from modelgarden_opt.configs.rules import pruning as pruning_rules

_MAX_LISTED = 6
# By how much the sparsity of a kernel may miss its plan without a warning.
_NOTICEABLE = 0.05
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
    self._too_small: list[str] = []
    self._contradictory: list[str] = []

  def transform(self, kernel: kernels.Kernel) -> mask.PruningMask | None:
    """Returns the mask of a kernel, None to leave it dense."""
    path, layer_type, shape = kernel.path, kernel.layer_type, kernel.shape
    parameters = self._rules.resolve(path, layer_type)
    enabled = parameters.pop('enabled')
    reason = self._reason_for_dense(enabled, layer_type, shape)
    scheduled = parameters['pruning_schedule'] != schedules.PRESERVE
    if not reason and scheduled:
      self._contradictory += [
          f'{path}: {field}: {problem}'
          for field, problem in pruning_rules.schedule_problems(
              pruning_cfg.PruningRule(**parameters))]
      if max(self._blocks['block_size']) > 1:
        self._check_blocks(path, shape, parameters['final_sparsity'])
    result = None if reason else mask.PruningMask(
        schedules.Schedule(
            name=parameters['pruning_schedule'],
            **{name: parameters[name] for name in _SCHEDULE_FIELDS}),
        self._m_by_n, **self._blocks)
    self.decisions.append(Decision(path, layer_type, result, reason))
    return result

  def _check_blocks(
      self, path: str, shape: tuple[int, ...], planned: float) -> None:
    """Remembers a kernel of which blocks leave nothing, or another share."""
    block = self._blocks['block_size']
    matrix = (math.prod(shape[:-1]), shape[-1])
    kernel = f'{path} ({matrix[0]} x {matrix[1]})'
    # The share of a block decides, so that any magnitudes will do.
    met = 1.0 - np.mean(selection.keep_blocks(np.ones(matrix), planned, block))
    if any(side > room for side, room in zip(block, matrix)) or met == 1.0:
      self._too_small.append(kernel)
    elif math.prod(block) / math.prod(matrix) > 2 * _NOTICEABLE:
      logging.warning(
          'task.pruning.block_size: %s has %d weights in blocks of %d, so that '
          'its sparsity is met to %.0f %% only (planned %.1f %%, met about '
          '%.1f %%).', kernel, math.prod(matrix), math.prod(block),
          50 * math.prod(block) / math.prod(matrix), 100 * planned, 100 * met)

  def _reason_for_dense(self, enabled, layer_type, shape) -> str:
    if enabled is False:
      return 'a rule leaves it dense'
    if self._m_by_n:
      n = self._m_by_n[1]
      if layer_type == 'DepthwiseConv2D':
        return 'a depthwise kernel has one input channel'
      inputs = shape[-2] if len(shape) > 1 else 1
      if inputs % n:
        return f'{inputs} input channels are not a multiple of {n}'
    if enabled:
      return ''
    if self._policy == 'pointwise' and (
        layer_type != 'Conv2D' or tuple(shape[:2]) != (1, 1)):
      return 'policy pointwise prunes 1x1 convolutions only'
    if self._policy == 'default' and layer_type == 'DepthwiseConv2D':
      return 'policy default leaves depthwise kernels dense'
    return ''

  def enabled(self, path: str, layer_type: str) -> bool:
    """Whether no rule leaves the layer at `path` alone."""
    return self._rules.resolve(path, layer_type)['enabled'] is not False

  def assert_all_rules_matched(self) -> None:
    """Raises `ValueError` if a rule matched no layer or nothing is pruned.

    Also if rules that match the same layer contradict each other, or if a
    kernel has no room for blocks that shall be pruned and others.
    """
    self._rules.assert_all_matched()
    if self._contradictory:
      more = len(self._contradictory) - _MAX_LISTED
      raise ValueError(
          'rules: several that match one layer add up to '
          f'{"; ".join(self._contradictory[:_MAX_LISTED])}'
          f'{f"; and {more} more" if more > 0 else ""}')
    if self._too_small:
      more = len(self._too_small) - _MAX_LISTED
      raise ValueError(
          f'block_size: {list(self._blocks["block_size"])} is too large for '
          'kernels as matrices of [everything else, output channels]: '
          f'{", ".join(self._too_small[:_MAX_LISTED])}'
          f'{f" and {more} more" if more > 0 else ""}; give smaller blocks, or '
          'leave these kernels dense by rules {path: ..., enabled: false}')
    if not any(decision.mask for decision in self.decisions):
      raise ValueError('no kernel is pruned: ' + '; '.join(sorted({
          d.reason for d in self.decisions})))


def make(config: pruning_cfg.Pruning) -> Pruning | None:
  """Returns the technique that a `pruning:` block describes.

  None for `granularity: channel`, which does nothing to single kernels.

  Raises:
    UsageError: If a schedule is not registered.
  """
  if config.of_channels:
    return None
  names = [config.pruning_schedule, *(
      r.pruning_schedule for r in config.rules if r.pruning_schedule)]
  for name in names:
    if name not in schedules.SCHEDULES:
      raise errors.UsageError(
          f'task.pruning.pruning_schedule: {name!r} is not registered'
          f'{errors.nearest(name, schedules.SCHEDULES)}')
  return Pruning(
      rules_lib.from_configs(config.rules),
      policy=config.policy,
      sparsity_m_by_n=config.sparsity_m_by_n and tuple(config.sparsity_m_by_n),
      block_size=tuple(config.block_size),
      block_pooling_type=config.block_pooling_type,
      pruning_schedule=config.pruning_schedule,
      begin_step=config.begin_step,
      end_step=config.end_step,
      initial_sparsity=config.initial_sparsity,
      final_sparsity=config.target_sparsity,
      power=config.power,
      frequency=config.frequency)
