"""The rounding of biases, which an integer file does and Keras would not see.

TFLite stores the bias of a convolution (with its batch norm folded in) as
int32 in steps of input step times kernel step. Where a batch norm scales small
activations up, the kernel step is large and the rounding of the bias reaches a
tenth of an output step: many outputs then fall on the other side, and in a
deep model most of them do. Seeing the rounding in inference makes the Keras
model predict what the file computes (docs/decisions.md has the numbers).

The step of a tensor travels with the tensor, as an attribute, from the
quantizer that made it to the convolution that reads it. Layers that hand on
the same tensor keep it; where it is lost, biases are not rounded.
"""

import tensorflow as tf

from modelgarden_opt.compression import grid
from modelgarden_opt.compression import internals

_STEP, _ACCUMULATOR_STEP = 'step', 'accumulator_step'
_ACCUMULATED = 'accumulated'


def with_step(x: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
  """Returns `x`, marked with the scalar step of the quantizer that made it."""
  return internals.mark(x, _STEP, step)


def step_of(x: tf.Tensor) -> tf.Tensor | None:
  """Returns the step of a quantized tensor, None if it is not marked."""
  return internals.mark_of(x, _STEP)


def hand_on(source: tf.Tensor, result: tf.Tensor) -> tf.Tensor:
  """Returns what an op made of `source` without leaving its grid, marked so."""
  grid.mark(result, grid.state_of(source))
  step = step_of(source)
  return result if step is None else with_step(result, step)


def with_accumulator_step(x: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
  """Returns `x`, what a convolution computed, marked with its int32 step.

  Args:
    x: Output of a convolution or dense layer on quantized values.
    step: Input step times kernel step, scalar or [channels].
  """
  return internals.mark(x, _ACCUMULATOR_STEP, step)


def accumulator_step_of(x: tf.Tensor) -> tf.Tensor | None:
  """Returns the int32 step of a convolution's output, None if not marked."""
  return internals.mark_of(x, _ACCUMULATOR_STEP)


def with_accumulated(x: tf.Tensor) -> tf.Tensor:
  """Returns `x`, marked as what a convolution on integers computed."""
  return internals.mark(x, _ACCUMULATED, True)


def is_accumulated(x: tf.Tensor) -> bool:
  """Whether a convolution made a tensor that computes on integers in a file.

  Unlike steps, this is also known while a model is exported.
  """
  return internals.mark_of(x, _ACCUMULATED, False)


def rounding_error(bias: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
  """Returns what int32 storage adds to a bias; no gradient passes it.

  Args:
    bias: float array [channels].
    step: Step of the accumulator, scalar or [channels], > 0.
  """
  return tf.stop_gradient(tf.round(bias / step) * step - bias)
