"""Finds the layer in which the first number is lost.

From the last good checkpoint, training is repeated up to the step in question
(the data are the same ones if they are deterministic). That step is then
computed op by op, and every layer's output is looked at.
"""

from collections.abc import Iterator
import contextlib
import functools
import threading
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import internals
from modelgarden_opt.modeling import distilling
from modelgarden_opt.modeling.state import whole
from modelgarden_opt.training import portions

# Steps that are repeated at most.
_MAX_REPEATED = 2000


class _Recorder:
  """In the place of an optimizer: keeps the gradients, changes nothing."""

  def __init__(self):
    self.gradients: list[tuple[Any, tf.Variable]] = []

  def apply_gradients(self, gradients, **_) -> None:
    self.gradients = [*gradients]


def restore(trainer: portions.Trainer, checkpoint: str) -> None:
  """Gives a trainer the state of a checkpoint."""
  with trainer.strategy.scope():
    trainer.checkpoint.restore(checkpoint).expect_partial()


def describe(trainer: portions.Trainer, checkpoint: str, first: int) -> str:
  """Returns where the first number is lost, '' if it is not found.

  Weights and step are others afterwards; the data are as they were.

  Args:
    trainer: The trainer of the run.
    checkpoint: Its last good checkpoint.
    first: The step whose loss is not finite.
  """
  start = whole.step(checkpoint)
  of_weights_now = of_weights(trainer.model)
  if not start < first <= start + _MAX_REPEATED:
    return of_weights_now
  restore(trainer, checkpoint)
  before = max(start, first - 2)
  with _data_from(trainer, start):
    if before > start:
      trainer.repeat(before - start)
    # The gradient of the step before may be what the loss is lost by.
    for step in range(before + 1, first + 1):
      with _data_from(trainer, step - 1) as batches:
        found = of_weights(trainer.model) or _of_step(trainer, next(batches))
      if found:
        return f'{found} in step {step}'
      if step < first:
        trainer.repeat(1)
  return of_weights_now


@contextlib.contextmanager
def _data_from(trainer: portions.Trainer, step: int) -> Iterator[Iterator]:
  """Gives a trainer the data that follow a step, and its own afterwards."""
  own = trainer.train_dataset, trainer._train_iter  # pylint: disable=protected-access
  resumed_at = trainer.task.resumed_at
  trainer.task.resumed_at = step
  try:
    trainer.train_dataset = trainer.distribute_dataset(
        trainer.task.build_inputs, trainer.config.task.train_data)
    trainer._train_iter = iter(trainer.train_dataset)  # pylint: disable=protected-access
    yield trainer._train_iter  # pylint: disable=protected-access
  finally:
    trainer.task.resumed_at = resumed_at
    trainer.train_dataset, trainer._train_iter = own  # pylint: disable=protected-access


def of_weights(model: tf_keras.Model) -> str:
  """Names the first layer with a weight that is not finite, '' for none."""
  for layer, name in _names(model):
    for variable in layer.trainable_variables:
      if not _finite(variable):
        return f'weights of {name} are not finite'
  return ''


def _of_step(trainer: portions.Trainer, batch: Any) -> str:
  """Names the first layer that loses a number in a step on a batch."""
  recorder, lost = _Recorder(), []
  with _watched(trainer.model, lost):
    logs = trainer.strategy.run(
        lambda inputs: trainer.task.train_step(
            inputs, trainer.model, recorder), args=(batch,))
  if lost:
    return f'the first output that is not finite is that of {lost[0]}'
  if not all(_finite(loss) for loss in trainer.strategy.
             experimental_local_results(logs[trainer.task.loss])):
    return 'all outputs are finite, the loss itself is not'
  return _of_gradients(trainer.model, recorder.gradients)


def _of_gradients(
    model: tf_keras.Model, gradients: list[tuple[Any, tf.Variable]]) -> str:
  """Names the layer whose gradient is lost first: the last one of the model."""
  lost = {variable.name for gradient, variable in gradients
          if gradient is not None and not _finite(gradient)}
  names = [name for layer, name in _names(model)
           if any(v.name in lost for v in layer.trainable_variables)]
  return f'the first gradient that is not finite is that of {names[-1]}' if (
      names) else ''


def _names(
    model: tf_keras.Model) -> Iterator[tuple[tf_keras.layers.Layer, str]]:
  """Yields the innermost layers of a model, in order, and what to call them."""
  for path, layer in distilling.named_layers(model):
    for inner in internals.layers_of(layer):
      if not [*internals.layers_of(inner)][1:]:
        yield inner, f'{path!r}' if inner is layer else (
            f'{path!r} ({inner.name})')


@contextlib.contextmanager
def _watched(model: tf_keras.Model, lost: list[str]) -> Iterator[None]:
  """Adds the names of layers to a list whose outputs are not finite."""
  lock = threading.Lock()  # Every replica runs in a thread of its own.

  def watch(call, name, *args, **kwargs):
    output = call(*args, **kwargs)
    if not all(_finite(tensor) for tensor in tf.nest.flatten(output)):
      with lock:
        lost.append(name)
    return output

  with contextlib.ExitStack() as stack:
    for layer, name in _names(model):
      stack.enter_context(internals.replaced(
          layer, call=functools.partial(watch, layer.call, name)))
    yield


def _finite(value: Any) -> bool:
  value = tf.convert_to_tensor(value)
  return not value.dtype.is_floating or bool(
      tf.reduce_all(tf.math.is_finite(value)))
