"""Structured pruning: which channels a smaller model keeps."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

from absl import logging
import numpy as np
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import rules as rules_lib
from modelgarden_opt.configs import pruning as pruning_cfg
from modelgarden_opt.modeling.channel_pruning import channels
from modelgarden_opt.modeling.channel_pruning import costs
from modelgarden_opt.modeling.channel_pruning import importance
from modelgarden_opt.modeling.state import checkpoints

# Enough to come within a thousandth of the channels.
_MAX_BISECTIONS = 12


@dataclasses.dataclass(frozen=True)
class PrunedGroup:
  """What becomes of one group, for the plan that a user reads.

  Attributes:
    path: Path of the leading convolution.
    size: Number of channels.
    kept: Number of those that stay.
    reason: Why nothing is removed, or empty.
  """
  path: str
  size: int
  kept: int
  reason: str = ''


@dataclasses.dataclass(frozen=True)
class Result:
  """A smaller model, not built yet.

  Attributes:
    candidate: Its filters and weights.
    groups: What becomes of every group.
    ratio: Its cost as a share of that of the whole model.
  """
  candidate: channels.Candidate
  groups: Sequence[PrunedGroup]
  ratio: float


def prune(
    model: tf_keras.Model,
    config: pruning_cfg.Pruning,
    gradients: importance.Gradients,
) -> Result:
  """Decides which channels go: the least important ones of all groups.

  As few channels go, in the order of their importance, as meet the target. A
  group keeps a multiple of `channel_multiple` channels.

  Args:
    model: A model of twins with the weights that are judged.
    config: The `pruning:` block.
    gradients: See `importance.Gradients`.

  Raises:
    UsageError: If the target is out of reach or unknown, a rule matches
      nothing, or the model has no such channels.
  """
  if config.target not in costs.COSTS:
    raise errors.UsageError(
        f'task.pruning.target: {config.target!r} is not registered'
        f'{errors.nearest(config.target, costs.COSTS)}')
  found = channels.groups(model)
  chosen = _chosen(found, config)
  scores = importance.of(config.importance, chosen, gradients)
  cost = costs.COSTS[config.target](model)
  whole = cost(channels.Candidate(model, found, {}))

  ranks = _ranks(scores)

  def candidate(removed: int) -> channels.Candidate:
    return channels.Candidate(model, found, {
        path: _keep(values, removed, config.channel_multiple)
        for path, values in ranks.items()})

  def ratio(removed: int) -> float:
    return cost(candidate(removed)) / whole

  removed = _fewest(sum(map(len, ranks.values())), ratio, config)
  result, reached = candidate(removed), ratio(removed)
  logging.info('Channel pruning: %s %.1f %% of the whole model.',
               config.target, 100 * reached)
  return Result(result, _summary(found, result, scores), reached)


def _chosen(
    found: Sequence[channels.Group], config: pruning_cfg.Pruning
) -> list[channels.Group]:
  """Returns the groups that the rules leave in."""
  if not found:
    raise errors.UsageError(
        'task.pruning.granularity: channel needs inverted bottlenecks, '
        'bottlenecks, residual blocks or ASPP, and the model has none; use '
        'granularity: weight')
  rules = rules_lib.Rules(
      [rules_lib.Rule(r.path, r.layer_type, {'enabled': r.enabled is not False})
       for r in config.rules], enabled=True)
  chosen = [group for group in found
            if rules.resolve(group.path, 'Conv2D')['enabled']]
  try:
    rules.assert_all_matched()
  except ValueError as e:
    raise errors.UsageError(f'task.pruning: {e}') from None
  if not chosen:
    raise errors.UsageError('task.pruning.rules: leave no channels to prune')
  return chosen


def _ranks(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the place of every channel in the order in which channels go.

  Channels of equal importance go evenly from all groups.
  """
  values = np.concatenate(list(scores.values()))
  places = np.concatenate([
      np.argsort(np.argsort(s, kind='stable')) / len(s)
      for s in scores.values()])
  ranks = np.empty(len(values), int)
  ranks[np.lexsort([places, values])] = np.arange(len(values))
  ends = np.cumsum([len(s) for s in scores.values()])
  return dict(zip(scores, np.split(ranks, ends[:-1])))


def _keep(ranks: np.ndarray, removed: int, multiple: int) -> np.ndarray:
  """Returns the indices of the channels that stay: at least `multiple`."""
  count = max(int(np.sum(ranks >= removed)), 1)
  count = min(-(-count // multiple) * multiple, len(ranks))
  return np.sort(np.argsort(-ranks)[:count])


def _fewest(total: int, ratio, config: pruning_cfg.Pruning) -> int:
  """Returns the smallest number of channels whose removal meets the target."""
  low, high = 0, total
  least = ratio(high)
  if least > config.keep_ratio:
    raise errors.UsageError(
        f'task.pruning.keep_ratio: {config.keep_ratio} is out of reach: with '
        f'{config.channel_multiple} channels left in every group '
        f'{config.target} is still {least:.3f} of the whole model')
  for _ in range(_MAX_BISECTIONS):
    if low >= high:
      break
    middle = (low + high) // 2
    if ratio(middle) <= config.keep_ratio:
      high = middle
    else:
      low = middle + 1
  return high


def _summary(
    found: Sequence[channels.Group],
    candidate: channels.Candidate,
    scores: Mapping[str, np.ndarray],
) -> list[PrunedGroup]:
  return [
      PrunedGroup(g.path, g.size, candidate.filters.get(g.path, g.size),
                  '' if g.path in scores else 'a rule leaves it whole')
      for g in found]


def transfer(candidate: channels.Candidate, model: tf_keras.Model) -> None:
  """Gives a smaller model what is left of the whole model's weights.

  Args:
    candidate: What the smaller model was built from.
    model: The smaller model; variables of techniques keep their values.
  """
  checkpoints.copy_variables(candidate.model, model, candidate.value)
