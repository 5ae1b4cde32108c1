"""The pruning masks of a model: found, set on schedule, applied, checked."""

from collections.abc import Mapping
import dataclasses

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import leaves
from modelgarden_opt.compression.pruning import mask as mask_lib
from modelgarden_opt.compression.pruning import technique

# Attribute of layers of a user's own that holds their masks.
_MASKS = '_modelgarden_opt_masks'


@dataclasses.dataclass(frozen=True)
class Masked:
  """A kernel and its mask.

  Attributes:
    path: Path of the layer (of a layer with several masked weights: and the
      weight's number).
    kernel: The variable.
    mask: Its mask.
  """
  path: str
  kernel: tf.Variable
  mask: mask_lib.PruningMask


def masked_kernels(model: tf_keras.Model) -> list[Masked]:
  """Returns every masked kernel of a model, composite blocks included."""
  found = []
  for layer in model._flatten_layers():  # pylint: disable=protected-access
    if isinstance(layer, leaves.Rewired) and layer.chain:
      found += [Masked(layer.path, layer.kernel_variable, transform)
                for transform in layer.chain
                if isinstance(transform, mask_lib.PruningMask)]
    found += getattr(layer, _MASKS, ())
  return found


def add_to_own_layers(
    model: tf_keras.Model, pruning: technique.Pruning) -> None:
  """Masks what layers of a user's own name by `get_prunable_weights()`.

  Args:
    model: A built model.
    pruning: Decides by path (the layers' names) and layer type.
  """
  for layer in model._flatten_layers():  # pylint: disable=protected-access
    if isinstance(layer, leaves.Rewired) or not hasattr(
        layer, 'get_prunable_weights') or hasattr(layer, _MASKS):
      continue
    masks = []
    for index, weight in enumerate(layer.get_prunable_weights()):
      path = f'{layer.name}/{index}'
      mask = pruning.transform(path, type(layer).__name__, tuple(weight.shape))
      if mask is not None:
        mask.build_for(layer, weight, index)
        masks.append(Masked(path, weight, mask))
    # Past Keras' tracking: the masks' variables are weights of the layer.
    layer.__dict__[_MASKS] = masks


def apply(
    masked: list[Masked], optimizer: tf_keras.optimizers.Optimizer) -> None:
  """Sets pruned elements to zero, also in moving averages of the weights.

  Args:
    masked: What `masked_kernels` returned.
    optimizer: The optimizer that just changed the kernels.
  """
  averaged = getattr(optimizer, 'has_shadow_copy', False)
  for item in masked:
    item.mask.apply(item.kernel)
    if averaged:
      item.mask.apply(optimizer.get_slot(item.kernel, 'average'))


def update(masked: list[Masked], step: int) -> list[Masked]:
  """Sets every mask that is due at a step; returns those that were set."""
  return [item for item in masked if item.mask.update(item.kernel, step)]


def sparsity(masked: list[Masked]) -> float:
  """Returns the share of zeros among all elements of masked kernels."""
  total = sum(int(np.prod(item.kernel.shape)) for item in masked)
  zeros = sum(item.mask.sparsity() * int(np.prod(item.kernel.shape))
              for item in masked)
  return zeros / total if total else 0.0


def summaries(masked: list[Masked]) -> Mapping[str, float]:
  """Returns sparsity and threshold, overall and by kernel, as scalars."""
  scalars = {'pruning/sparsity': sparsity(masked)}
  for item in masked:
    for name, value in item.mask.summaries(item.kernel).items():
      scalars[f'pruning/{name}/{item.path}'] = value
  return scalars


def problems(masked: list[Masked]) -> list[str]:
  """Returns one line for every pruned element that is not zero any more."""
  return [f'{item.path}: {line}' for item in masked
          for line in item.mask.check(item.kernel)]
