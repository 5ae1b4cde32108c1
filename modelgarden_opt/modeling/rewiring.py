"""Rebuilds a model once, every layer exchanged for its twin."""

import collections
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from official.vision.modeling import segmentation_model
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import blocks  # noqa: F401 (registers twins)
from modelgarden_opt.compression import heads  # noqa: F401
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import recipes
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import sequences
from modelgarden_opt.compression import topology
from modelgarden_opt.compression import twin
from modelgarden_opt.modeling import compressed_model


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
  _assert_supported(_problems(model, plan))
  rewired = _rewire_functional(model, plan)
  if isinstance(model, tf_keras.Sequential):
    # As a functional model a Sequential one would count its input as a layer.
    return compressed_model.CompressedSequential(
        [*rewired._flatten_layers(include_self=False, recursive=False)],  # pylint: disable=protected-access
        name=model.name)
  return compressed_model.CompressedModel(rewired, model.name)


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
  reasons = _problems(model.backbone, plan, 'backbone/')
  for part, path in ((decoder, 'decoder'), (model.head, 'head')):
    if part is not None:
      reasons += _problem(part, plan, path)
  _assert_supported(reasons)
  rewired = segmentation_model.SegmentationModel(
      backbone=_rewire_functional(model.backbone, plan, 'backbone/'),
      decoder=decoder and twin.to_twin(decoder, plan, 'decoder'),
      head=twin.to_twin(model.head, plan, 'head'),
      name=model.name)
  rewired(image, training=False)
  return rewired


def _rewire_functional(
    model: tf_keras.Model,
    plan: plan_lib.Plan,
    prefix: str = '',
    outer: '_Readers | None' = None,
) -> tf_keras.Model:
  """Rewires a functional model, and those that are nested in it."""
  readers = _Readers(model, prefix, outer)

  def to_twin(layer):
    if isinstance(layer, tf_keras.Model):
      return _rewire_functional(
          layer, plan, readers.prefix_of(layer), readers)
    taken_over = sequences.is_taken_over(layer, readers.followers(layer), plan)
    return twin.to_twin(
        layer, plan, readers.paths[id(layer)], quantize_output=not taken_over)

  return tf_keras.models.clone_model(model, clone_function=to_twin)


class _Readers:
  """Who reads the output of a layer, also after the end of a nested model.

  Attributes:
    paths: The layers' paths by their ids.
  """

  def __init__(
      self,
      model: tf_keras.Model,
      prefix: str,
      outer: '_Readers | None' = None,
  ):
    """Initializes the readers.

    Args:
      model: A functional model.
      prefix: What the paths of its layers begin with.
      outer: Those of the model that it is nested in.
    """
    self.paths = rules.layer_paths(model.layers, prefix)
    self._model = model
    self._outer = outer
    self._readers = _readers(model)
    self._calls = _calls(model)

  def prefix_of(self, nested: tf_keras.Model) -> str:
    """Returns what the paths of a nested model's layers begin with."""
    return _prefix(nested, self._model, self.paths)

  def followers(
      self, layer: tf_keras.layers.Layer
  ) -> Iterator[tuple[tf_keras.layers.Layer, str]]:
    """Yields the only reader of a layer, the only reader of that one, ...

    Of a layer that is called several times: the layer that reads each of its
    outputs, if there is nothing else that reads one.
    """
    count, readers = self._calls[id(layer)], self._readers[id(layer)]
    if len(readers) != count or any(r is not readers[0] for r in readers):
      return
    reader = readers[0]
    # A norm is fused into what it reads at every call, or at none.
    if reader is not None and rules.float_type(reader) in topology.NORMS and (
        self._calls[id(reader)] != count):
      return
    if reader is None:
      if self._outer and len(self._model.outputs) == 1:
        yield from self._outer.followers(self._model)
    else:
      yield reader, self.paths[id(reader)]
      yield from self.followers(reader)


def _prefix(nested: tf_keras.Model, model: tf_keras.Model, paths) -> str:
  """Returns what the paths of a nested model's layers begin with."""
  is_backbone = nested is getattr(model, 'backbone', None)
  return 'backbone/' if is_backbone else f'{paths[id(nested)]}/'


def _nodes(model: tf_keras.Model) -> list[Any]:
  """Returns the calls of layers that make up a model, and no others.

  A layer's own nodes are also those of other models that it is part of.
  """
  by_depth = model._nodes_by_depth.values()  # pylint: disable=protected-access
  return [node for nodes in by_depth for node in nodes]


def _calls(model: tf_keras.Model) -> Mapping[int, int]:
  """Returns how often a model calls a layer, by its id."""
  return collections.Counter(id(node.layer) for node in _nodes(model))


def _readers(
    model: tf_keras.Model,
) -> Mapping[int, list[tf_keras.layers.Layer | None]]:
  """Returns the layers that read a layer's output by its id.

  None stands for the outside: the output is one of the model.
  """
  readers = collections.defaultdict(list)
  for node in _nodes(model):
    for tensor in node.keras_inputs:
      readers[id(_maker(tensor))].append(node.layer)
  for tensor in model.outputs:
    readers[id(_maker(tensor))].append(None)
  return readers


def _maker(tensor: Any) -> tf_keras.layers.Layer:
  return tensor._keras_history.layer  # pylint: disable=protected-access


def _problems(
    model: tf_keras.Model, plan: plan_lib.Plan, prefix: str = ''
) -> list[str]:
  """Returns one line for every layer that the plan cannot treat."""
  if not getattr(model, '_nodes_by_depth', None):
    return [f'{prefix or "model"} ({type(model).__name__}): is neither a '
            'functional model nor a Sequential one with an input shape']
  paths = rules.layer_paths(model.layers, prefix)
  found = []
  for layer in model.layers:
    path = paths[id(layer)]
    if isinstance(layer, tf_keras.Model):
      found += _problems(layer, plan, _prefix(layer, model, paths))
    else:
      found += _problem(layer, plan, path)
  return found


def _problem(
    layer: tf_keras.layers.Layer, plan: plan_lib.Plan, path: str) -> list[str]:
  reason = twin.problem(layer, plan, path)
  return [f'{path} ({type(layer).__name__}): {reason}'] if reason else []


def _assert_supported(reasons: Sequence[str]) -> None:
  """Raises one error for all layers that cannot be treated."""
  if not reasons:
    return
  known = sorted({
      *(block.__name__ for block in twin.TWINS), *topology.KERNELS,
      *topology.LEAVES, *topology.PASSING, *topology.ACTIVATIONS,
      *recipes.RECIPES})
  raise ValueError(
      f'{errors.counted(len(reasons), "layer")} of the model cannot be '
      'compressed:\n  '
      + '\n  '.join(reasons) +
      '\nExchange them, leave them alone by rules {path: ..., enabled: false}, '
      'or register a recipe for their type (docs/extending.md). Known layers '
      f'are: {", ".join(known)}')
