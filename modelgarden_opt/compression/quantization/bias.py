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

_STEP = '_modelgarden_opt_step'


def with_step(x: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
  """Returns `x`, marked with its quantization step.

  Args:
    x: What a quantizer (scalar step) or a convolution on quantized values (the
      step of its int32 accumulator, scalar or one per channel) computed.
    step: The step.
  """
  setattr(x, _STEP, step)
  return x


def step_of(x: tf.Tensor) -> tf.Tensor | None:
  """Returns the step that `x` is marked with, None if it is not."""
  return getattr(x, _STEP, None)


def rounding_error(bias: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
  """Returns what int32 storage adds to a bias; no gradient passes it.

  Args:
    bias: float array [channels].
    step: Step of the accumulator, scalar or [channels], > 0.
  """
  return tf.stop_gradient(tf.round(bias / step) * step - bias)
