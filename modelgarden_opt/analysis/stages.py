"""Runs a traced model from any layer on, so that no prefix is computed twice.

The layers of a functional model are the stages. Where a stage is left out, it
hands on a batch without images, or, as the last one that is left out, what it
computed before. Whether all that comes later needs nothing else is tried on two
images.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import functools

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import grid
from modelgarden_opt.compression import internals

# Cuts that are tried, evenly spaced.
_MOST_CUTS = 24


class Stages:
  """The layers of a model in their order, and which of them run.

  Attributes:
    layers: The layers.
  """

  def __init__(self, model: tf_keras.Model):
    """Finds the layers; `wrapped` has to be active while they are traced.

    Args:
      model: A functional model, maybe with a functional backbone in it.
    """
    self.layers = _layers_of(model)
    self._start = tf.Variable(0)
    self._stop = tf.Variable(len(self.layers) + 1)
    shape = tf.TensorShape(None)
    self._given = tf.Variable(tf.zeros([0]), shape=shape)
    self._kept = tf.Variable(tf.zeros([0]), shape=shape)

  @contextlib.contextmanager
  def wrapped(self) -> Iterator[None]:
    """Makes the layers optional in what is traced inside of the context."""
    with contextlib.ExitStack() as stack:
      for index, layer in enumerate(self.layers):
        stack.enter_context(internals.replaced(layer, call=functools.partial(
            self._optional, index, layer.call)))
      yield

  def _optional(self, index: int, call, inputs, *args, **kwargs) -> tf.Tensor:
    """Computes a layer if its turn has come, see the module."""
    made: list[tf.Tensor] = []

    def compute():
      made.append(call(inputs, *args, **kwargs))
      tf.cond(tf.equal(self._stop, index + 1),
              lambda: self._keep(made[0]), lambda: tf.constant(False))
      return tf.identity(made[0])

    def leave_out():
      empty = [0, *(size or 0 for size in made[0].shape[1:])]
      return tf.cond(tf.equal(self._start, index + 1),
                     self._given.read_value, lambda: tf.zeros(empty))

    runs = tf.logical_and(self._start <= index, index < self._stop)
    result = tf.cond(runs, compute, leave_out)
    result.set_shape(made[0].shape)
    return grid.mark(result, grid.state_of(made[0]))

  def _keep(self, value: tf.Tensor) -> tf.Tensor:
    self._kept.assign(value)
    return tf.constant(True)

  def output_of(self, stage: int, run, start: int, given) -> tf.Tensor:
    """Returns what a stage computes.

    Args:
      stage: Number of the stage.
      run: Runs the traced model on a batch.
      start: Number of the first stage that is computed.
      given: Output of the one before it, None where that is the image.
    """
    self._stop.assign(stage + 1)
    try:
      self.outputs(run, start, given)
    finally:
      self._stop.assign(len(self.layers) + 1)
    return tf.identity(self._kept)

  def outputs(self, run, start: int, given) -> np.ndarray:
    """Returns the outputs of the model, computed from a stage on."""
    self._start.assign(start)
    if start:
      self._given.assign(given)
    try:
      return run()
    finally:
      self._start.assign(0)

  def cuts(self, run) -> list[int]:
    """Returns the stages from which the model can be computed, in order.

    Args:
      run: Runs the traced model on two images.
    """
    expected = run()
    tried = np.unique(np.linspace(
        1, len(self.layers) - 1, _MOST_CUTS).astype(int)) if (
            len(self.layers) > 1) else ()
    found = []
    for start in map(int, tried):
      try:
        given = self.output_of(start - 1, run, 0, None)
        outputs = self.outputs(run, start, given)
      except tf.errors.OpError:
        continue
      if outputs.shape == expected.shape and np.allclose(
          outputs, expected, rtol=1e-4, atol=1e-5):
        found.append(start)
    return found


def _layers_of(model: tf_keras.Model) -> Sequence[tf_keras.layers.Layer]:
  """Returns the layers that make one tensor, those of nested models included.
  """
  found = []
  for layer in getattr(model, 'layers', ()):
    if isinstance(layer, tf_keras.Model):
      found += _layers_of(layer)
    elif not isinstance(layer, tf_keras.layers.InputLayer) and (
        _is_called_once(layer)):
      found.append(layer)
  return found


def _is_called_once(layer: tf_keras.layers.Layer) -> bool:
  """Whether a layer is called once in a functional model, for one tensor."""
  nodes = getattr(layer, '_inbound_nodes', ())
  return len(nodes) == 1 and tf_keras.backend.is_keras_tensor(
      nodes[0].outputs) and not isinstance(nodes[0].outputs, (list, dict))
