"""A training step in parts, for batches whose activations do not fit."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from modelgarden_opt.modeling import gradient_recorder

# Takes a step on (images, labels) with an optimizer; returns its logs.
Step = Callable[[Any, Any], Mapping[str, tf.Tensor]]


def train_step(
    step: Step, inputs: Any, optimizer: Any, parts: int
) -> dict[str, tf.Tensor]:
  """Takes one step of the optimizer with the gradients of all parts.

  The loss is a mean over images, so the mean of the parts' gradients is the
  gradient of the whole. Only one part has activations at a time.

  Args:
    step: The task's own training step.
    inputs: (images [b, h, w, c], labels) of a replica.
    optimizer: What the gradients are applied by.
    parts: Number of parts, which divides b.

  Returns:
    The mean of the parts' logs.
  """
  split = [tf.split(tensor, parts) for tensor in tf.nest.flatten(inputs)]
  total: list[tf.Tensor] = []
  variables: list[tf.Variable] = []
  logs = []
  for tensors in zip(*split):
    recorder = gradient_recorder.GradientRecorder()
    # A part begins when the one before it is done with its activations.
    with tf.control_dependencies(total):
      tensors = [tf.identity(tensor) for tensor in tensors]
    logs.append(step(tf.nest.pack_sequence_as(inputs, tensors), recorder))
    variables = recorder.variables
    total = ([a + b for a, b in zip(total, recorder.gradients, strict=True)]
             if total else recorder.gradients)
  optimizer.apply_gradients(
      [(gradient / parts, variable)
       for gradient, variable in zip(total, variables)])
  return tf.nest.map_structure(
      lambda *values: tf.add_n([tf.cast(v, tf.float32) for v in values]) /
      parts, *logs)
