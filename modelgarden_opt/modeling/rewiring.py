"""Rebuilds a model once, every layer exchanged for its twin."""

from official.vision.modeling import segmentation_model
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import blocks  # noqa: F401 (registers twins)
from modelgarden_opt.compression import heads  # noqa: F401
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import twin


class CompressedModel(tf_keras.Model):
  """A functional model of twins that keeps the float model's parts in reach."""

  def __init__(self, rewired: tf_keras.Model, name: str):
    """Wraps a rewired model.

    Args:
      rewired: What `_rewire_functional` returned.
      name: The float model's name.
    """
    super().__init__(
        inputs=rewired.inputs, outputs=rewired.outputs, name=name)
    nested = [layer for layer in rewired.layers
              if isinstance(layer, tf_keras.Model)]
    self._parts = dict(zip(('backbone',), nested))

  @property
  def backbone(self) -> tf_keras.Model:
    """The compressed backbone."""
    return self._parts['backbone']

  @property
  def checkpoint_items(self) -> dict[str, tf_keras.Model]:
    """Parts that are checkpointed under names of their own."""
    return dict(self._parts)


def rewire(model: tf_keras.Model, plan: plan_lib.Plan) -> tf_keras.Model:
  """Returns a copy of a model made of twins; weights are not copied.

  Layers are neither added nor removed, so the copy has the layer names and
  the attribute paths of the original.

  Args:
    model: A float classification or segmentation model of the Model Garden.
    plan: Decides about transforms and quantizers by path and layer type.

  Raises:
    ValueError: If the model has a layer that cannot be rewired.
  """
  if isinstance(model, segmentation_model.SegmentationModel):
    return _rewire_segmentation(model, plan)
  return CompressedModel(_rewire_functional(model, plan), model.name)


def _rewire_segmentation(
    model: segmentation_model.SegmentationModel, plan: plan_lib.Plan
) -> segmentation_model.SegmentationModel:
  """Rewires backbone, decoder and head, part by part."""
  if model.mask_scoring_head is not None:
    raise ValueError('mask_scoring_head: cannot be compressed; use null')
  image = tf_keras.Input(model.backbone.input_shape[1:])
  if not model.built:  # Its head has no variables yet.
    model(image, training=False)
  decoder = model.decoder
  rewired = segmentation_model.SegmentationModel(
      backbone=_rewire_functional(model.backbone, plan, 'backbone/'),
      decoder=decoder and twin.to_twin(decoder, plan, 'decoder'),
      head=twin.to_twin(model.head, plan, 'head'),
      name=model.name)
  rewired(image, training=False)
  return rewired


def _rewire_functional(
    model: tf_keras.Model, plan: plan_lib.Plan, prefix: str = ''
) -> tf_keras.Model:
  """Rewires a functional model, and those that are nested in it."""
  paths = rules.layer_paths(model.layers, prefix)

  def to_twin(layer):
    if isinstance(layer, tf_keras.Model):
      is_backbone = layer is getattr(model, 'backbone', None)
      nested = 'backbone' if is_backbone else paths[id(layer)]
      return _rewire_functional(layer, plan, f'{nested}/')
    return twin.to_twin(
        layer,
        plan,
        paths[id(layer)],
        quantize_input=_reads_input(layer),
        quantize_output=not _has_follower(layer))

  return tf_keras.models.clone_model(model, clone_function=to_twin)


def _reads_input(layer: tf_keras.layers.Layer) -> bool:
  """Whether the layer reads an input of the model."""
  inbound = (tf.nest.flatten(n.inbound_layers) for n in layer.inbound_nodes)
  return any(isinstance(source, tf_keras.layers.InputLayer)
             for sources in inbound for source in sources)


def _has_follower(layer: tf_keras.layers.Layer) -> bool:
  """Whether the only reader of the output is its norm or its activation."""
  readers = [node.outbound_layer for node in layer.outbound_nodes]
  return len(readers) == 1 and twin.is_followed_up(layer, readers[0])
