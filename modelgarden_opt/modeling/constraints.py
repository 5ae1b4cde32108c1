"""What holds for the kernels of a model: masks, clusters, ranges.

Found in a model, started from its weights, applied after every training step,
reported in summaries, checked.
"""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

from absl import logging
import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import kernels
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import replicas
from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.pruning import mask as mask_lib
from modelgarden_opt.compression.pruning import pruning_technique

# Attribute of custom layers that holds their masks.
_OWN = '_modelgarden_opt_constraints'


@dataclasses.dataclass(frozen=True)
class Constraint:
  """A kernel and the transform whose constraint it satisfies.

  Attributes:
    path: Path of the layer (of a layer with several masked weights: and the
      weight's number).
    kernel: The variable.
    transform: The mask, the cluster table or the quantizer.
  """
  path: str
  kernel: tf.Variable
  transform: transforms.KernelTransform


def find(model: tf_keras.Model, kind: str = '') -> list[Constraint]:
  """Returns the constraints of a model, composite blocks included.

  Args:
    model: A compressed model.
    kind: Name of a technique, for its constraints only. In the order in which a
      kernel passes them.
  """
  found = []
  for layer in internals.layers_of(model):
    if isinstance(layer, leaves.Rewired) and layer.chain:
      found += [Constraint(layer.path, layer.kernel_variable, transform)
                for transform in layer.chain if transform.constrains]
    found += getattr(layer, _OWN, ())
  return [item for item in found if kind in ('', item.transform.technique)]


def add_to_own_layers(
    model: tf_keras.Model, pruning: pruning_technique.Pruning) -> None:
  """Masks what custom layers name by `get_prunable_weights()`.

  Args:
    model: A built model.
    pruning: Decides by path (the layers' names) and layer type.
  """
  for layer in internals.layers_of(model):
    if isinstance(layer, leaves.Rewired) or not hasattr(
        layer, 'get_prunable_weights') or hasattr(layer, _OWN):
      continue
    found = []
    for index, weight in enumerate(layer.get_prunable_weights()):
      path = f'{layer.name}/{index}'
      mask = pruning.transform(kernels.Kernel(
          path, type(layer).__name__, tuple(weight.shape)))
      if mask is not None:
        mask.build_for(layer, weight, index)
        found.append(Constraint(path, weight, mask))
    # Not tracked: the masks' variables are weights of the layer already.
    internals.set_untracked(layer, **{_OWN: found})


def start(found: Sequence[Constraint]) -> None:
  """Sets the state of every transform that takes it from the weights.

  Raises:
    UsageError: If the weights do not satisfy what is to be preserved.
  """
  problems = []
  for item in found:
    try:
      item.transform.start(item.kernel)
    except ValueError as e:
      problems.append(f'{item.path}: {e}')
  if problems:
    more = f' (and {len(problems) - 1} more kernels)' if problems[1:] else ''
    raise errors.UsageError(
        f'pretrained_original_checkpoint: {problems[0]}{more}; give the '
        'checkpoint of a pruned or clustered run, or another schedule or '
        'initialization than PRESERVE')
  masks = [item for item in found if item.transform.technique == 'pruning']
  _warn_of_revived(masks)
  if masks and all(m.transform.preserves for m in masks) and not any(
      m.transform.sparsity() for m in masks):
    raise errors.UsageError(
        'task.pruning.pruning_schedule: Preserve keeps the zeros that a '
        'checkpoint has, and there are none; give a pruned checkpoint as '
        'pretrained_original_checkpoint')


def _warn_of_revived(masks: Sequence[Constraint]) -> None:
  """Says so if schedules begin with fewer zeros than the weights have."""
  revived = []
  for item in masks:
    if item.transform.preserves:
      continue
    zeros = float(np.mean(item.kernel.numpy() == 0))
    initial = item.transform.schedule.initial_sparsity
    # Training may have led a few weights to zero by chance.
    if zeros > initial + 1e-3:
      revived.append((item.path, zeros, initial))
  if revived:
    path, zeros, initial = max(revived, key=lambda r: r[1] - r[2])
    logging.warning(
        'task.pruning.initial_sparsity: %d of %d kernels start with more zeros '
        'than that, %s with %.2f %% and not %.2f %%: pruned weights may grow '
        'again until the schedule has reached the difference; '
        'initial_sparsity: %.2f goes on from there.',
        len(revived), len(masks), path, 100 * zeros, 100 * initial, zeros)


def apply(
    found: Sequence[Constraint], optimizer: tf_keras.optimizers.Optimizer
) -> None:
  """Makes kernels satisfy their constraints, and moving averages of them.

  Args:
    found: What `find` returned.
    optimizer: The optimizer that just changed the kernels.
  """
  changes = [(item.kernel, item.transform.apply) for item in found]
  if getattr(optimizer, 'has_shadow_copy', False):
    changes += [(optimizer.get_slot(item.kernel, 'average'),
                 item.transform.apply_to_copy) for item in found]
  replicas.update([variable for variable, _ in changes],
                  lambda index, copy: changes[index][1](copy))


def bring_into_form(found: Sequence[Constraint]) -> None:
  """Does to kernels what `apply` does, outside of a training step."""
  for item in found:
    item.transform.apply(item.kernel)


def update(
    found: Sequence[Constraint],
    step: int,
    optimizer: tf_keras.optimizers.Optimizer | None = None,
) -> list[Constraint]:
  """Moves scheduled state to a step; returns what was changed.

  Args:
    found: What `find` returned.
    step: The training step.
    optimizer: Its moving averages of the kernels are constrained as well.
  """
  changed = [
      item for item in found if item.transform.update(item.kernel, step)]
  if getattr(optimizer, 'has_shadow_copy', False):
    for item in changed:
      item.transform.apply_to_copy(optimizer.get_slot(item.kernel, 'average'))
  return changed


def sparsity(found: Sequence[Constraint]) -> float:
  """Returns the share of zeros among all elements of masked kernels."""
  masks = [item for item in found
           if isinstance(item.transform, mask_lib.PruningMask)]
  sizes = [int(np.prod(item.kernel.shape)) for item in masks]
  zeros = sum(size * item.transform.sparsity()
              for size, item in zip(sizes, masks))
  return zeros / sum(sizes) if masks else 0.0


def summaries(found: Sequence[Constraint]) -> Mapping[str, float]:
  """Returns scalars for TensorBoard, overall and by kernel."""
  scalars = {}
  if any(item.transform.technique == 'pruning' for item in found):
    scalars['pruning/sparsity'] = sparsity(found)
  shares = collections.defaultdict(list)
  for item in found:
    for name, value in item.transform.summaries(item.kernel).items():
      scalars[f'{item.transform.technique}/{name}/{item.path}'] = value
      if item.transform.technique == 'quantization':
        shares[name].append((value, item.kernel.shape.num_elements()))
  for name, counted in shares.items():
    values, sizes = zip(*counted)
    scalars[f'quantization/{name}'] = float(np.average(values, weights=sizes))
  return scalars


def problems(found: Sequence[Constraint]) -> list[str]:
  """Returns one line for every kernel that violates its constraint."""
  return [f'{item.path}: {line}' for item in found
          for line in item.transform.check(item.kernel)]
