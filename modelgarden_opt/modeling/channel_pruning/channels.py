"""Groups of channels that can be removed from a model, and their removal.

A group is found by `topology.py` in a model of twins: the filters of one
convolution with everything that belongs to the same channels, up to the input
channels of whatever reads them. Nothing outside of the block sees a change.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import topology
from modelgarden_opt.compression import twin


@dataclasses.dataclass(frozen=True)
class Cut:
  """Where a variable holds the channels of a group.

  Attributes:
    variable: The variable.
    axis: Its axis of channels.
    offset: Where on the axis the channels begin.
  """
  variable: tf.Variable
  axis: int
  offset: int = 0


@dataclasses.dataclass(frozen=True)
class Group:
  """Channels that can be removed together.

  Attributes:
    producers: The convolutions whose filters they are, the leading one first.
    norm: The batch normalization after the leading one.
    cuts: Every place where the channels are.
  """
  producers: tuple[leaves.Rewired, ...]
  norm: tf_keras.layers.BatchNormalization
  cuts: tuple[Cut, ...]

  @property
  def path(self) -> str:
    """Path of the leading convolution, which names the group."""
    return self.producers[0].path

  @property
  def size(self) -> int:
    """Number of channels."""
    return self.producers[0].filters


# Path of a group -> indices of the channels that stay, in order.
Kept = Mapping[str, np.ndarray]


def groups(model: tf_keras.Model) -> list[Group]:
  """Returns the groups of a built model of twins."""
  found = []
  for layer in internals.layers_of(model):
    if isinstance(layer, twin.Twin):
      block = topology.BLOCKS[topology.key(rules.float_class(type(layer)))]
      found += _inside(layer, block)
      if block.branches:
        found += _of_branches(*(getattr(layer, n) for n in block.branches))
  return found


def _inside(layer: twin.Twin, block: topology.Block) -> Iterator[Group]:
  """Yields the groups whose place in a block is written in the topology."""
  norms = {unit.op: unit.norm for unit in block.units}
  for entry in block.channels:
    if entry.unless and getattr(layer, entry.unless):
      continue
    producers = _sublayers(layer, entry.producers)
    # An inverted bottleneck that does not expand never calls its first one.
    if not producers or not producers[0].built:
      continue
    norm = getattr(layer, norms[entry.producers[0]])
    followers = [norm]
    for name in entry.through:
      followers += _sublayers(layer, (name, norms[name]))
    cuts = [cut for producer in producers for cut in _outputs(producer)]
    cuts += [cut for follower in followers for cut in _each(follower)]
    cuts += [Cut(consumer.kernel, 2)
             for consumer in _sublayers(layer, entry.consumers)]
    yield Group(tuple(producers), norm, tuple(cuts))


def _of_branches(branches, readers) -> Iterator[Group]:
  """Yields one group for every branch that is joined with others."""
  reader = next(layer for layer in _flat(readers) if _is_conv(layer))
  offset = 0
  for branch in branches:
    layers = list(_flat(branch))
    index = max(i for i, layer in enumerate(layers) if _is_conv(layer))
    producer, norm = layers[index], layers[index + 1]
    yield Group((producer,), norm, (
        *_outputs(producer), *_each(norm), Cut(reader.kernel, 2, offset)))
    offset += producer.filters


def _flat(layers) -> Iterator[tf_keras.layers.Layer]:
  """Yields the layers of a list or of a `Sequential`, nested ones included."""
  for layer in getattr(layers, 'layers', layers):
    if isinstance(layer, tf_keras.Sequential):
      yield from _flat(layer)
    else:
      yield layer


def _is_conv(layer: tf_keras.layers.Layer) -> bool:
  return rules.float_type(layer) == 'Conv2D'


def _sublayers(layer, names: Sequence[str]) -> list[tf_keras.layers.Layer]:
  """Returns the sub-layers of these names that a block has."""
  found = []
  for name in names:
    sublayer = layer
    for part in name.split('.'):
      sublayer = getattr(sublayer, part, None)
    if sublayer is not None:
      found.append(sublayer)
  return found


def _outputs(conv: leaves.Rewired) -> list[Cut]:
  return [Cut(conv.kernel, 3), *([Cut(conv.bias, 0)] if conv.use_bias else [])]


def _each(layer: tf_keras.layers.Layer) -> list[Cut]:
  """Cuts of a layer that has one weight (or one filter) for every channel."""
  return [Cut(v, 2 if v.shape.rank == 4 else 0) for v in layer.variables]


class Candidate:
  """A model with some channels removed: what it has, without building it."""

  def __init__(
      self, model: tf_keras.Model, found: Sequence[Group], kept: Kept):
    """Initializes the candidate.

    Args:
      model: The model with all channels.
      found: Its groups.
      kept: Groups that are not in it keep all channels.
    """
    self.model = model
    self.filters = {
        producer.path: len(kept[group.path])
        for group in found if group.path in kept
        for producer in group.producers}
    self._masks: dict[int, list[np.ndarray]] = {}
    for group in found:
      if group.path in kept:
        for cut in group.cuts:
          self._remove(cut, group.size, kept[group.path])

  def _remove(self, cut: Cut, size: int, kept: np.ndarray) -> None:
    masks = self._masks.setdefault(id(cut.variable), [
        np.ones(length, bool) for length in cut.variable.shape])
    channels = masks[cut.axis][cut.offset:cut.offset + size]
    channels[np.setdiff1d(np.arange(size), kept)] = False

  def num_elements(self, variable: tf.Variable) -> int:
    """Returns how many elements of a variable are left."""
    masks = self._masks.get(id(variable))
    if masks is None:
      return int(np.prod(variable.shape))
    return int(np.prod([mask.sum() for mask in masks]))

  def value(self, variable: tf.Variable) -> np.ndarray:
    """Returns what is left of a variable."""
    masks = self._masks.get(id(variable))
    value = variable.numpy()
    return value if masks is None else value[np.ix_(*masks)]
