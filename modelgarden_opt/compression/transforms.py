"""Kernel transforms: what a kernel passes on its way to the op.

A leaf (a convolution or dense layer) owns its kernel variable and a chain of
transforms: pruning mask, then cluster look-up, then fake quantization. Every
technique and every combination of techniques is such a chain.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras


def stored_dtype(variable: tf.Variable) -> tf.DType:
  """Returns the type of a variable in memory.

  Under mixed precision `dtype` is, within a layer's call, that of the op.
  """
  return getattr(variable, 'true_dtype', variable.dtype)


def is_training(training) -> bool:
  """Returns `training` as a Python bool; Keras' symbolic default is False.

  Quantizers and masks branch in Python, so that neither distribution
  strategies nor the converter ever see a conditional.
  """
  return training if isinstance(training, bool) else False


class KernelTransform(tf.Module):
  """One step between a kernel variable and the op that reads it.

  A subclass implements `__call__` and whatever else its technique needs. Its
  variables are created in `build` through the owning layer, so that they are
  checkpointed, placed and aggregated like the layer's own.
  """

  technique = ''
  # Whether it has state of the kernel that training starts from, or changes the
  # kernel's variable after a step, see `start` and `apply`.
  constrains = False
  # Whether files have to hold the zeros or the equal weights that it makes.
  shows_in_files = False
  # Whether equal weights of different output channels shall stay equal.
  shares_values = False
  # Whether a file computes on integers of the kernel that it returns now.
  computes_on_integers = False

  def build(self, layer: tf_keras.layers.Layer, kernel: tf.Variable) -> None:
    """Creates the variables of the transform (none by default)."""

  def __call__(self, kernel: tf.Tensor, training: bool) -> tf.Tensor:
    """Returns the transformed kernel, of the kernel's shape."""
    raise NotImplementedError

  def step(self, kernel: tf.Tensor) -> tf.Tensor | None:
    """Returns the quantization step of a transformed kernel, if it has one."""
    return None

  def follow(self, earlier: 'KernelTransform') -> None:
    """Adapts to the transforms that come earlier in the chain."""

  def start(self, kernel: tf.Variable) -> None:
    """Takes state from the kernel that training starts from.

    Raises:
      ValueError: If the kernel does not satisfy what is to be preserved.
    """

  def update(self, kernel: tf.Variable, step: int) -> bool:
    """Moves scheduled state to a training step; returns whether it changed."""
    return False

  def apply(self, kernel: tf.Variable) -> None:
    """Makes the kernel's variable satisfy the constraint after a step."""

  def apply_to_copy(self, copy: tf.Variable) -> None:
    """Does the same to a moving average of the kernel."""
    self.apply(copy)

  def planned(self) -> dict[str, Any]:
    """Returns fields of `kernel_report.PlannedKernel` that it decides."""
    return {}

  def next_update(self, step: int) -> int | None:
    """Returns the next step at which `update` is due, if any."""
    del step

  def summaries(self, kernel: tf.Tensor) -> dict[str, tf.Tensor]:
    """Scalars for TensorBoard, by name."""
    return {}

  def check(self, kernel: tf.Tensor) -> list[str]:
    """Returns one line for every violated invariant of the transform."""
    return []


class TransformChain(tf.Module):
  """The transforms of one kernel, in order, addressable by technique."""

  def __init__(self, transforms: Sequence[KernelTransform]):
    super().__init__()
    self._order = tuple(t.technique for t in transforms)
    for index, transform in enumerate(transforms):
      for earlier in transforms[:index]:
        transform.follow(earlier)
      # An attribute by technique, not a list index: a checkpoint of a pruned
      # model then meets the mask of a pruned and quantized one.
      setattr(self, transform.technique, transform)

  def __iter__(self):
    return (getattr(self, technique) for technique in self._order)

  def __bool__(self) -> bool:
    return bool(self._order)

  def build(self, layer: tf_keras.layers.Layer, kernel: tf.Variable) -> None:
    for transform in self:
      transform.build(layer, kernel)

  def __call__(self, kernel: tf.Tensor, training: bool) -> tf.Tensor:
    for transform in self:
      kernel = transform(kernel, training)
    return kernel

  @property
  def computes_on_integers(self) -> bool:
    """Whether a file computes on integers of what it returns now."""
    return any(transform.computes_on_integers for transform in self)

  def step(self, kernel: tf.Tensor) -> tf.Tensor | None:
    """Returns the quantization step of what the chain returned, if any."""
    steps = [transform.step(kernel) for transform in self]
    return steps[-1] if steps else None
