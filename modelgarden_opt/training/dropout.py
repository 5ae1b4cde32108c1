"""Dropout whose choices depend on the training step alone.

Keras' generator counts its calls, and a run that resumes would begin to count
again. With a seed from the configuration and the step, the same units are
dropped in the same step, however often the run was interrupted.
"""

from typing import Any

import tensorflow as tf
import tf_keras


class _ByStep:
  """In the place of a layer's `tf_keras.backend.RandomGenerator`."""

  def __init__(self, step: tf.Variable, seed: int):
    self._step, self._seed = step, seed

  def dropout(
      self, inputs: tf.Tensor, rate: Any, noise_shape: Any = None
  ) -> tf.Tensor:
    """Sets a share of the elements to zero and scales the others."""
    context = tf.distribute.get_replica_context()
    replica = context.replica_id_in_sync_group if context else 0
    seed = tf.stack([
        tf.cast(self._step, tf.int64),
        tf.constant(self._seed << 16, tf.int64) + tf.cast(replica, tf.int64)])
    return tf.nn.experimental.stateless_dropout(
        inputs, rate, seed, noise_shape=noise_shape)


def depend_on_step(
    model: tf_keras.Model, step: tf.Variable, seed: int | None) -> None:
  """Makes the dropout layers of a model depend on the step.

  Args:
    model: A float or compressed model; changed in place.
    step: The variable that counts training steps.
    seed: That of the training data; None changes nothing.
  """
  if seed is None:
    return
  layers = [layer for layer in model._flatten_layers()  # pylint: disable=protected-access
            if isinstance(layer, tf_keras.layers.Dropout)]
  for index, layer in enumerate(layers):
    layer._random_generator = _ByStep(step, (seed + index) % 2**31)  # pylint: disable=protected-access
