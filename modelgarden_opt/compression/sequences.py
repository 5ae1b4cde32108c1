"""Layers that run one after the other, and which one quantizes an output."""

from collections.abc import Iterable
from collections.abc import Sequence

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import topology
from modelgarden_opt.compression import twin
from modelgarden_opt.compression.quantization import activations
from modelgarden_opt.compression.quantization import functions


class Branch(tf_keras.Sequential):
  """Layers that run one after the other on the tensors that they are given.

  A `Sequential` would build its layers on a new input, which carries no mark
  of how it was made.
  """

  def build(self, input_shape):
    self.built = True

  @tf.autograph.experimental.do_not_convert
  def call(self, inputs, training=None):
    for layer in self.layers:
      takes_training = layer._expects_training_arg  # pylint: disable=protected-access
      inputs = (layer(inputs, training=training) if takes_training
                else layer(inputs))
    return inputs


def to_sequence(
    layers: Sequence[tf_keras.layers.Layer],
    plan: plan_lib.Plan,
    path: str,
    *,
    activation_path: str = '',
) -> list[tf_keras.layers.Layer]:
  """Returns the counterparts of layers that run one after the other.

  Args:
    layers: Layers, and `Sequential` models of layers.
    plan: Decides about transforms and quantizers by path and layer type.
    path: Path of the sequence.
    activation_path: Path of the activation after the last layer, if any.
  """
  paths = rules.layer_paths(layers, f'{path}/')
  result = []
  for index, layer in enumerate(layers):
    followers = layers[index + 1:]
    if isinstance(layer, tf_keras.Sequential):
      result.append(Branch(
          to_sequence(layer.layers, plan, paths[id(layer)]), name=layer.name))
      continue
    taken = is_taken_over(
        layer, ((f, paths[id(f)]) for f in followers), plan, activation_path)
    result.append(twin.to_twin(
        layer, plan, paths[id(layer)], quantize_output=not taken))
    if followers and isinstance(
        followers[0], tf_keras.layers.Reshape) and hasattr(layer, 'keepdims'):
      # The pooled tensor keeps its axes, and the reshaping, which would need
      # the batch size, has nothing left to do.
      result[-1].keepdims = True
  return result


def is_taken_over(
    layer: tf_keras.layers.Layer,
    followers: Iterable[tuple[tf_keras.layers.Layer, str]],
    plan: plan_lib.Plan,
    activation_path: str = '',
) -> bool:
  """Whether a norm or an activation quantizes what a layer computes.

  Args:
    layer: The layer.
    followers: Layers and their paths: the only reader of its output, the only
      reader of that one's, and so on.
    plan: Decides about quantizers by path and layer type.
    activation_path: Path of the activation after the last of them, if any.
  """
  for reader, path in followers:
    if not _can_take_over(layer, reader):
      return False
    of_function = activations.is_activation(reader)
    kind = 'Activation' if of_function else (
        rules.float_type(reader))
    if plan.enabled('quantization', path, kind):
      return True
    if kind not in topology.NORMS:
      return False
    layer = reader
  return bool(activation_path) and plan.enabled(
      'quantization', activation_path, 'Activation')


def _can_take_over(
    layer: tf_keras.layers.Layer, reader: tf_keras.layers.Layer) -> bool:
  """Whether a runtime fuses what a reader does into a layer."""
  kind = rules.float_type(layer)
  if kind in topology.KERNELS and not functions.is_linear(layer.activation):
    kind = ''  # As good as an activation layer.
  reader_kind = rules.float_type(reader)
  if reader_kind in topology.NORMS:
    # After a dense layer the converter leaves both in float.
    return kind in topology.KERNELS and kind != 'Dense'
  if reader_kind in topology.MERGES:
    return kind in topology.FUSING or activations.has_open_end(layer)
  if not activations.is_activation(reader):
    return False
  return kind in topology.FUSING or activations.reads_own_range(reader)
