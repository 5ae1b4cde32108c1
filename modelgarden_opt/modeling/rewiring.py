"""Rebuilds a functional model once, every layer exchanged for its twin."""

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import blocks
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import topology
from modelgarden_opt.compression.quantization import activations


def rewire_model(
    model: tf_keras.Model, plan: plan_lib.Plan, prefix: str = ''
) -> tf_keras.Model:
  """Returns a copy of a functional model made of twins; weights are not copied.

  Layers are neither added nor removed, so the copy has the layer names and
  the attribute paths of the original.

  Args:
    model: A functional float model; nested functional models are rewired too.
    plan: Decides about transforms and quantizers by path and layer type.
    prefix: Path of the model, with a slash behind it.

  Raises:
    ValueError: If the model has a layer that cannot be rewired.
  """
  paths = rules.layer_paths(model.layers, prefix)

  def to_twin(layer):
    if isinstance(layer, tf_keras.Model):
      is_backbone = layer is getattr(model, 'backbone', None)
      nested = 'backbone' if is_backbone else paths[id(layer)]
      return rewire_model(layer, plan, f'{nested}/')
    return blocks.to_twin(
        layer,
        plan,
        paths[id(layer)],
        quantize_input=_reads_input(layer),
        quantize_output=not _is_followed_up(layer))

  return tf_keras.models.clone_model(model, clone_function=to_twin)


def _reads_input(layer: tf_keras.layers.Layer) -> bool:
  """Whether the layer reads an input of the model."""
  inbound = (tf.nest.flatten(n.inbound_layers) for n in layer.inbound_nodes)
  return any(isinstance(source, tf_keras.layers.InputLayer)
             for sources in inbound for source in sources)


def _is_followed_up(layer: tf_keras.layers.Layer) -> bool:
  """Whether the only reader of the output is its norm or its activation."""
  readers = [node.outbound_layer for node in layer.outbound_nodes]
  if len(readers) != 1:
    return False
  reader, = readers
  if type(reader).__name__ in topology.NORMS:
    return type(layer).__name__ in topology.KERNELS
  return (type(reader).__name__ in topology.ACTIVATIONS and
          activations.function_name(
              getattr(reader, 'activation', tf.nn.relu)) != 'linear')
