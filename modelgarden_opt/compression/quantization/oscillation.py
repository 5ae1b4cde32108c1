"""Weights that oscillate between two integers: tracked, dampened or frozen.

The straight-through gradient of a weight whose best value lies between two
integers leads it past the threshold between them again and again. In kernels
of few bits that disturbs the statistics of batch normalization, and training
ends at a random one of the two.

Source: Nagel et al., "Overcoming Oscillations in Quantization-Aware Training",
arXiv:2203.11086, sections 2 and 4.
"""

import dataclasses
import math

import tensorflow as tf
import tf_keras

from modelgarden_opt.configs import quantization as quantization_cfg

# Weights above this frequency are counted as oscillating, as in the source.
OSCILLATING = 0.005


@dataclasses.dataclass(frozen=True)
class Settings:
  """What is done about oscillations.

  Attributes:
    method: One of `quantization_cfg.OSCILLATIONS` but `none`.
    momentum: Weight of a step in the moving averages, in (0, 1].
    dampening_weight: Weight of the dampening loss from `dampening_end_step` on.
    dampening_end_step: Until then the weight grows from 0, by a cosine.
    freezing_threshold: Frequency above which a weight is frozen, in (0, 1).
  """
  method: str
  momentum: float
  dampening_weight: float
  dampening_end_step: int | None
  freezing_threshold: float


class Oscillation(tf.Module):
  """The integers of one kernel from step to step.

  A weight oscillates in a step that changes its integer into the direction
  opposite to its last change. The state moves after every training step, when
  the optimizer has moved the weights, on every replica alike.
  """

  def __init__(self, settings: Settings):
    super().__init__()
    self._settings = settings

  @property
  def freezes(self) -> bool:
    return self._settings.method == quantization_cfg.FREEZE

  @property
  def dampens(self) -> bool:
    return self._settings.method == quantization_cfg.DAMPEN

  def build(self, layer: tf_keras.layers.Layer, kernel: tf.Variable) -> None:
    """Creates the state as weights of `layer`."""

    def variable(name, dtype, shape=kernel.shape):
      return layer.add_weight(
          name=f'quantized_{name}', shape=shape, dtype=dtype,
          initializer='zeros', trainable=False,
          synchronization=tf.VariableSynchronization.AUTO,
          aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

    self.integers = variable('integers', tf.int8)
    self.direction = variable('direction', tf.int8)
    self.frequency = variable('frequency', tf.float32)
    if self.freezes:
      self.average = variable('average', tf.float32)
    if self.dampens:
      self.num_steps = variable('num_steps', tf.int64, ())

  def start(self, integers: tf.Tensor) -> None:
    """Begins with the integers of the kernel that training starts from."""
    for variable in (self.direction, self.frequency):
      variable.assign(tf.zeros_like(variable))
    self.integers.assign(tf.cast(integers, tf.int8))
    if self.freezes:
      self.average.assign(integers)
    if self.dampens:
      self.num_steps.assign(0)

  def observe(self, integers: tf.Tensor) -> None:
    """Takes the integers of the kernel after a training step.

    Args:
      integers: float32, of the kernel's shape. Those of frozen weights do not
        count.
    """
    momentum = self._settings.momentum
    held = self.frozen() if self.freezes else False
    now = tf.cast(integers, tf.int8)
    direction = tf.sign(now - self.integers)
    opposite = (direction != 0) & (direction == -self.direction)
    frequency = self.frequency + momentum * (
        tf.cast(opposite, tf.float32) - self.frequency)
    if self.freezes:
      average = self.average + momentum * (integers - self.average)
      self.average.assign(
          tf.where(held, self.average, average), read_value=False)
    if self.dampens:
      self.num_steps.assign_add(1, read_value=False)
    for variable, value in (
        (self.frequency, frequency), (self.integers, now),
        (self.direction, tf.where(direction != 0, direction, self.direction))):
      variable.assign(tf.where(held, variable, value), read_value=False)

  def frozen(self) -> tf.Tensor:
    """Returns which weights are frozen, bool of the kernel's shape.

    The state of a frozen weight does not change any more, so it stays so.
    """
    return self.frequency > self._settings.freezing_threshold

  def frozen_integers(self) -> tf.Tensor:
    """Returns the integers of frozen weights: the most frequent ones."""
    return tf.round(self.average)

  def loss(
      self, kernel: tf.Tensor, quantized: tf.Tensor, limit: tf.Tensor
  ) -> tf.Tensor:
    """Returns the dampening loss: the squared distance to the integers.

    Only weights inside of the range get a gradient, and the range gets none.

    Args:
      kernel: float32, the last axis is that of the range.
      quantized: What the quantizer made of it.
      limit: Upper end of the range, [channels] or a scalar.
    """
    settings = self._settings
    share = tf.minimum(1.0, tf.cast(self.num_steps, tf.float32) /
                       float(settings.dampening_end_step))
    weight = settings.dampening_weight * 0.5 * (
        1.0 - tf.cos(math.pi * share))
    limit = tf.stop_gradient(limit)
    distance = tf.clip_by_value(kernel, -limit, limit) - (
        tf.stop_gradient(quantized))
    return weight * tf.reduce_sum(distance**2)

  def summaries(self) -> dict[str, float]:
    """Returns the shares of oscillating and of frozen weights."""
    frequency = self.frequency.numpy()
    held = frequency > self._settings.freezing_threshold
    if not self.freezes:
      return {'oscillating': float((frequency > OSCILLATING).mean())}
    return {
        'oscillating': float(((frequency > OSCILLATING) & ~held).mean()),
        'frozen': float(held.mean())}
