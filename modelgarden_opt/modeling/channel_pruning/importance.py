"""How important every channel of a group is."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.modeling import gradient_recorder
from modelgarden_opt.modeling.channel_pruning import channels

# Yields, for one batch after another, the gradient of the loss by the
# reference (`ref()`) of every variable that has one.
Gradients = Callable[[], Iterable[dict]]


def of(
    kind: str, found: Sequence[channels.Group], gradients: Gradients
) -> dict[str, np.ndarray]:
  """Returns the importance of every channel, by path of its group.

  Args:
    kind: `magnitude` is the L1 norm of a filter (Li et al., "Pruning Filters
      for Efficient ConvNets", arXiv:1608.08710) and `batch_norm` the magnitude
      of the scale after it (Liu et al., "Learning Efficient Convolutional
      Networks through Network Slimming", arXiv:1708.06519), both as multiples
      of the group's mean, so that groups compare. `taylor` is the squared
      change of the loss, to first order, if the channel were zero (Molchanov
      et al., "Importance Estimation for Neural Network Pruning",
      arXiv:1906.10771).
    found: The groups.
    gradients: Called for `taylor` only.
  """
  if kind == 'taylor':
    return _taylor(found, gradients())
  score = _magnitude if kind == 'magnitude' else _batch_norm
  return {group.path: _by_mean(score(group)) for group in found}


def _magnitude(group: channels.Group) -> np.ndarray:
  return np.abs(group.producers[0].kernel.numpy()).sum(axis=(0, 1, 2))


def _batch_norm(group: channels.Group) -> np.ndarray:
  return np.abs(group.norm.gamma.numpy())


def _by_mean(scores: np.ndarray) -> np.ndarray:
  return scores / max(float(scores.mean()), 1e-12)


def _taylor(
    found: Sequence[channels.Group], batches: Iterable[dict]
) -> dict[str, np.ndarray]:
  scores = {group.path: np.zeros(group.size) for group in found}
  for gradients in batches:
    for group in found:
      change = np.zeros(group.size)
      for variable in (group.norm.gamma, group.norm.beta):
        change += (gradients[variable.ref()] * variable).numpy()
      scores[group.path] += change**2
  return scores


def gradients_of(
    train_step: Callable[..., Any], model: tf_keras.Model
) -> Callable[[Any], dict]:
  """Returns a function from a batch to gradients by reference of the variable.

  Every replica sees the whole batch, so all of them choose the same channels.

  Args:
    train_step: A task's, which takes a batch, a model and an optimizer.
    model: The model; it is not changed but for its moving averages.
  """
  strategy = tf.distribute.get_strategy()
  variables: list[tf.Variable] = []

  def step(batch):
    recorder = gradient_recorder.GradientRecorder()
    train_step(batch, model, recorder)
    variables[:] = recorder.variables
    return recorder.gradients

  # Traced: in eager replicas synchronized batch norms may miss each other.
  run = tf.function(lambda batch: strategy.run(step, args=(batch,)))

  def compute(batch) -> dict:
    found = [strategy.experimental_local_results(gradient)[0]
             for gradient in run(batch)]
    return {variable.ref(): gradient
            for variable, gradient in zip(variables, found)}

  return compute
