"""Which tensors are on the grid of a quantizer, noted while a model is built.

An op of an integer file reads integers. Where a rule leaves a layer in float,
or an op outside of any layer computes something, no quantizer has made the
tensor, and the next quantized layer has to quantize its input. Which layers
that are depends on the options of blocks and on the rules, so it is not
written down anywhere: tensors carry how they were made, and a layer looks at
what it is called with before it is built.
"""

from collections.abc import Callable
import enum
import inspect
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import internals


class State(enum.Enum):
  """How a tensor was made.

  GRID: by a quantizer. OPEN: by an op into which a norm or an activation can
  be fused, so that whoever reads it decides. FLOAT: in any other way.
  """
  GRID = 'grid'
  OPEN = 'open'
  FLOAT = 'float'


_STATE = 'state'


def mark(x: tf.Tensor, state: State) -> tf.Tensor:
  """Returns `x`, marked with how it was made."""
  return internals.mark(x, _STATE, state)


def state_of(x: Any) -> State:
  """Returns how a tensor was made; FLOAT if it carries no mark."""
  state = internals.mark_of(x, _STATE)
  if state is not None:
    return state
  if tf_keras.backend.is_keras_tensor(x):
    layer, _, index = x._keras_history  # pylint: disable=protected-access
    if isinstance(layer, tf_keras.Model) and layer.outputs:
      return state_of(layer.outputs[index])
  return State.FLOAT


def states_of(values: Any) -> list[State]:
  """Returns how the tensors of a nested structure were made."""
  return [state_of(x) for x in tf.nest.flatten(values)]


class Noting:
  """Mixin of a layer: knows how its inputs were made before it is built.

  In a functional model a layer computes on placeholders, which carry no marks:
  they are taken from its inputs and given to its outputs.
  """

  # Declared on the class so that Keras does not track them.
  incoming: list[State] = ()
  outgoing: list[State] = ()

  def __call__(self, *args, **kwargs):
    inputs = args[0] if args else kwargs.get('inputs')
    if any(map(tf_keras.backend.is_keras_tensor, tf.nest.flatten(inputs))):
      self.note_incoming(states_of(inputs))
    else:
      self.incoming = states_of(inputs)
    outputs = super().__call__(*args, **kwargs)
    for output, state in zip(tf.nest.flatten(outputs), self.outgoing):
      if tf_keras.backend.is_keras_tensor(output):
        mark(output, state)
    return outputs

  def note_incoming(self, states: list[State]) -> None:
    """Learns how inputs were made while a functional model is put together."""
    self.incoming = states

  def mark_incoming(self, inputs: Any) -> None:
    """Gives the inputs of `call` the marks of those of `__call__`."""
    for x, state in zip(tf.nest.flatten(inputs), self.incoming):
      if internals.mark_of(x, _STATE) is None:
        mark(x, state)

  def note(self, outputs: Any, state: State | None = None) -> Any:
    """Returns the outputs of `call`, marked.

    Args:
      outputs: Tensors, nested in any way.
      state: What to mark them with; None if they carry marks already.
    """
    if state is not None:
      mark(outputs, state)
    self.outgoing = states_of(outputs)
    return outputs


def noting(call: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a float block's `call` that hands marks in and out.

  Args:
    call: `call(self, inputs, training=None)`, or without `training`.
  """
  takes_training = 'training' in inspect.signature(call).parameters

  @tf.autograph.experimental.do_not_convert
  def marked(self, inputs, training=None):
    self.mark_incoming(inputs)
    inputs = self.quantize_inputs(inputs, training)
    options = {'training': training} if takes_training else {}
    return self.note(call(self, inputs, **options))

  return marked
