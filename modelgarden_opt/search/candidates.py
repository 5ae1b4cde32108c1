"""Which points of the space are tried: uniform ones, then by sensitivity."""

from collections.abc import Iterator
from collections.abc import Sequence
import math

import numpy as np

from modelgarden_opt.search import assignment
from modelgarden_opt.search import harms as harms_lib
from modelgarden_opt.search import layers as layers_lib
from modelgarden_opt.search import space

# A bisection ends where costs or harms of both sides differ by less.
_CLOSE = 0.01
# Harms below this are as good as none, and have no logarithm.
_TINY = 1e-9


def uniform(
    found: Sequence[layers_lib.Layer], within: space.Space, teacher: bool
) -> list[space.Candidate]:
  """Returns one choice for all layers, in the order of their worth.

  The first layer keeps 8 bits, and where single weights are removed, it and
  depthwise kernels stay dense, as everywhere in this project.

  Args:
    found: The layers.
    within: The space; what it lacks is left out.
    teacher: Whether candidates are taught by the float model.
  """
  most = 0.8 if 0.8 in within.sparsities else max(within.sparsities, default=0)
  low = space.LOW_BITS if space.LOW_BITS in within.bits else 0
  wanted = [(space.Choice(), space.PER_CHANNEL)]
  if low:
    wanted += [(space.Choice(low), granularity)
               for granularity in within.granularities]
  if most:
    wanted.append((space.Choice(sparsity=most), space.PER_CHANNEL))
  if low and within.sparsities:
    wanted.append(
        (space.Choice(low, within.sparsities[0]), within.granularities[-1]))
  wanted += [(space.Choice(clusters=n), space.PER_CHANNEL)
             for n in within.clusters]
  made = [_uniform(found, choice, space.Family(granularity, 1.0, teacher))
          for choice, granularity in wanted]
  return [*made[:1], *(_uniform(found, space.Choice(), space.Family(
      space.PER_CHANNEL, keep, teacher)) for keep in within.keeps
                       if keep < 1.0), *made[1:]]


def _uniform(found, choice, family) -> space.Candidate:
  layers = {}
  for index, layer in enumerate(found):
    bits = choice.bits
    if index == 0 and bits == space.LOW_BITS:
      bits = space.BITS
    dense = layer.layer_type == 'DepthwiseConv2D'
    layers[layer.path] = space.Choice(bits) if dense else space.Choice(
        bits, choice.sparsity, choice.clusters)
  name = ', '.join(filter(None, (str(choice), str(family))))
  return space.Candidate(name, family, layers, uniform=True)


class Bisection:
  """Candidates of one family, from coarse to fine along the harm they do.

  The candidate of every limit is the cheapest one below it. Limits are halved
  on a logarithmic scale between one that was too much and one that was not.
  """

  def __init__(
      self,
      found: Sequence[layers_lib.Layer],
      family: space.Family,
      within: space.Space,
      harms: harms_lib.Harms,
      cost: layers_lib.Cost,
  ):
    """Initializes the search in a family.

    Args:
      found: The layers.
      family: What is the same for all of them.
      within: The space.
      harms: What choices do; choices that were not measured are left out.
      cost: What a choice costs.
    """
    self.family = family
    self._layers = found
    self._choices = [_measured(layer, family, within, harms)
                     for layer in found]
    self._harms = [np.array([harms.of(layer.path, choice) or 0.0
                             for choice in choices])
                   for layer, choices in zip(found, self._choices)]
    self._costs = [np.array([cost(layer, choice, family)
                             for choice in choices])
                   for layer, choices in zip(found, self._choices)]
    self._low = math.log(max(_TINY, sum(h.min() for h in self._harms)))
    self._high = math.log(max(_TINY, sum(h.max() for h in self._harms)))
    self._told: dict[tuple[int, ...], bool] = {}
    self._last: tuple[int, ...] = ()

  @property
  def limit(self) -> float:
    """The harm that the next candidate may do."""
    return math.exp((self._low + self._high) / 2)

  def next(self) -> tuple[space.Candidate, float] | None:
    """Returns the next candidate and its expected cost, None at the end."""
    cheap, dear = (self._cost_at(math.exp(end))
                   for end in (self._high, self._low))
    while dear - cheap > _CLOSE * dear and self._high - self._low > _CLOSE:
      indices = tuple(
          assignment.solve(self._costs, self._harms, self.limit))
      if indices in self._told:  # Of another limit.
        self._move(self._told[indices])
        continue
      self._last = indices
      layers = {layer.path: choices[index] for layer, choices, index in zip(
          self._layers, self._choices, indices)}
      return (space.Candidate('searched', self.family, layers),
              self.family.keep * self._cost_of(indices))
    return None

  def tell(self, fits: bool) -> None:
    """Says whether the last candidate meets the constraints."""
    self._told[self._last] = fits
    self._move(fits)

  def _move(self, fits: bool) -> None:
    if fits:
      self._low = math.log(self.limit)
    else:
      self._high = math.log(self.limit)

  def _cost_at(self, limit: float) -> float:
    return self._cost_of(assignment.solve(self._costs, self._harms, limit))

  def _cost_of(self, indices: Sequence[int]) -> float:
    return float(sum(
        cost[index] for cost, index in zip(self._costs, indices)))


def _measured(layer, family, within, harms) -> list[space.Choice]:
  """Returns the choices of a layer whose harm is known; 8 bits at least."""
  found = [choice for choice in layers_lib.choices_of(layer, within)
           if harms.of(layer.path, choice) is not None]
  if family.keep < 1.0:  # Channels and single weights are pruned in turn.
    found = [choice for choice in found if not choice.sparsity]
  if family.granularity == space.PER_TENSOR:  # Folding takes clusters apart.
    found = [choice for choice in found if not choice.clusters]
  return found or [space.Choice()]


def families(within: space.Space, teacher: bool) -> Iterator[space.Family]:
  """Yields the families of a space, the most promising ones first."""
  for keep in within.keeps:
    for granularity in reversed(within.granularities):
      yield space.Family(granularity, keep, teacher)
