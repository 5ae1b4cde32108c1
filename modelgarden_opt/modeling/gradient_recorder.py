"""Gradients of a task's own training step, without a change of the model."""

from collections.abc import Iterable

import tensorflow as tf


class GradientRecorder:
  """Stands in for an optimizer: keeps gradients and changes nothing.

  Attributes:
    gradients: Those of the last step.
    variables: The variables that they are of.
  """

  def __init__(self):
    self.gradients: list[tf.Tensor] = []
    self.variables: list[tf.Variable] = []

  def apply_gradients(
      self,
      pairs: Iterable[tuple[tf.Tensor | None, tf.Variable]],
      *unused_args,
      **unused_kwargs,
  ) -> None:
    """Keeps the gradients of all variables that have one."""
    known = [(gradient, variable) for gradient, variable in pairs
             if gradient is not None]
    self.gradients = [gradient for gradient, _ in known]
    self.variables = [variable for _, variable in known]
