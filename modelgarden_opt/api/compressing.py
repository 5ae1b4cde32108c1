"""From a Keras model in memory to a compressed one, and back from a file."""

from collections.abc import Mapping
import dataclasses
import itertools
import os
import shutil
from typing import Any
import uuid

import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.api import arguments
from modelgarden_opt.configs import block as block_cfg
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import compressed_model
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling import keras_models
from modelgarden_opt.modeling import post_training
from modelgarden_opt.modeling import saved_models
from modelgarden_opt.modeling.channel_pruning import channel_search
from modelgarden_opt.modeling.state import architecture
from modelgarden_opt.modeling.state import checkpoints

# Batches that calibrate a model without a `quantization:` block of its own.
_STEPS = 8
# The complete model in a SavedModel, where TensorFlow keeps what is not its.
_IN_SAVED_MODEL = os.path.join('assets.extra', 'model.keras')


def compress(
    model: tf_keras.Model,
    quantization: block_cfg.Block | Mapping[str, Any] | None = None,
    pruning: block_cfg.Block | Mapping[str, Any] | None = None,
    clustering: block_cfg.Block | Mapping[str, Any] | None = None,
    *,
    calibration_data: Any = None,
    **others: block_cfg.Block | Mapping[str, Any] | None,
) -> tf_keras.Model:
  """Returns the compressed counterpart of a float model, with its weights.

  It is trained by `fit` (with a `CompressionCallback` if it has schedules) and
  saved, exported and evaluated by the functions beside this one. The float
  model stays as it is.

  Args:
    model: A functional or `Sequential` model: of Keras layers, with branches,
      nested models and layers that are called several times, of
      `tf_keras.applications`, or of the Model Garden. Or what this function
      returned, to be compressed by more: give its techniques again, such as
      `pruning={'pruning_schedule': 'Preserve'}`.
    quantization: Fields of the `quantization:` block of a YAML file
      (docs/configuration.md), or the block; `{}` for its defaults, None for
      float.
    pruning: Likewise; None for dense kernels.
    clustering: Likewise; None for independent weights.
    calibration_data: Images from which activation ranges are measured, see
      `calibrate`.
    **others: Blocks of further techniques, by name.

  Raises:
    UsageError: If a field is wrong, or the model has layers that cannot be
      treated as configured; all of them are in one message. Also if the model
      is compressed already, and by what is not given here.
  """
  keras_models.assert_model(model)
  blocks = arguments.blocks({
      'quantization': quantization, 'pruning': pruning,
      'clustering': clustering, **others})
  _assert_kept(model, blocks)
  pruned = _without_channels(model, blocks.get('pruning'))
  filters = dict(pruned.candidate.filters) if pruned else {}
  for block in blocks.values():
    if block.pretrained_original_checkpoint:
      filters |= architecture.of_checkpoint(
          block.pretrained_original_checkpoint)
  compressed = factory.compress(model, *blocks.values(), filters=filters)
  compressed.origin = dataclasses.replace(
      compressed.origin, float_model=_serialized(model))
  if pruned:
    channel_search.transfer(pruned.candidate, compressed)
  for name, block in blocks.items():
    if block.pretrained_original_checkpoint:
      checkpoints.load_checkpoint(
          compressed, block.pretrained_original_checkpoint, 'all',
          f'{name}.pretrained_original_checkpoint')
  found = constraints.find(compressed)
  constraints.start(found)
  constraints.update(found, 0)
  if calibration_data is not None:
    calibrate(compressed, calibration_data)
  return compressed


def _assert_kept(model, blocks) -> None:
  """Raises `UsageError` if a compressed model would lose a technique."""
  origin = getattr(model, 'origin', None) or compressed_model.Origin()
  lost = [name for name in origin.blocks if name not in blocks]
  if lost:
    raise errors.UsageError(
        f'model: {model.name!r} is compressed by {" and ".join(lost)} already, '
        'and would lose that; give the block again (for pruning, '
        "pruning_schedule 'Preserve' keeps the zeros), or give the float model")


def again(
    model: tf_keras.Model, blocks: Mapping[str, block_cfg.Block]
) -> tf_keras.Model:
  """Returns the counterpart of a model under other blocks, with its weights.

  Args:
    model: A float model, or what `compress` returned; masks and clusters of
      that one are kept.
    blocks: The blocks by the techniques' names.

  Raises:
    UsageError: If the model has no such counterpart.
  """
  origin = getattr(model, 'origin', None)
  if origin is None:
    return factory.compress(model, *blocks.values())
  if not isinstance(origin.float_model, dict):
    raise errors.UsageError(f'model: {origin.float_model or "has no origin"}')
  floats = tf_keras.saving.deserialize_keras_object(origin.float_model)
  found = factory.compress(floats, *blocks.values(), filters=origin.filters)
  checkpoints.copy_variables(model, found)
  return found


def _without_channels(model, pruning) -> channel_search.Result | None:
  """Returns which channels stay, None unless channels are pruned."""
  if pruning is None or not pruning.of_channels:
    return None
  if pruning.importance == 'taylor':
    raise errors.UsageError(
        "pruning.importance: 'taylor' needs the gradients of a training run; "
        'use magnitude or batch_norm, or `modelgarden-opt train`')
  return channel_search.prune(factory.neutral(model), pruning, lambda: ())


def _serialized(model: tf_keras.Model) -> dict[str, Any] | str:
  """Returns a model without weights, or why Keras cannot serialize it."""
  try:
    return tf_keras.saving.serialize_keras_object(model)
  except (NotImplementedError, TypeError, ValueError) as e:
    return f'Keras cannot save the float model: {e}'


def calibrate(
    model: tf_keras.Model, data: Any, steps: int | None = None) -> None:
  """Measures the activation ranges of a quantized model.

  Before and after it, what the `quantization:` block asks for is done:
  `fold_batch_norm`, `cross_layer_equalization`, `bias_correction`.

  Args:
    model: What `compress` returned.
    data: Un-augmented training images, preprocessed: an array [n, h, w, c], a
      `tf.data.Dataset` or anything else that yields batches, with labels or
      without.
    steps: Batches to take (arrays are cut into batches of 32); None for
      `calibration_steps` of the `quantization:` block.

  Raises:
    UsageError: If the model has no ranges, or the images do not fit.
  """
  keras_models.assert_model(model)
  if not calibration.quantizers_of(model):
    raise errors.UsageError(
        'calibrate: the model is not quantized: '
        'compress(model, quantization={}) makes one that is')
  origin = getattr(model, 'origin', compressed_model.Origin())
  block = origin.blocks.get('quantization', quantization_cfg.Quantization())
  steps = steps or block.calibration_steps or _STEPS
  images = arguments.images(data, arguments.image_shape(model), 'data')
  batches = [(batch, None) for batch in itertools.islice(images, steps)]
  post_training.quantize(
      model, block.replace(calibration_steps=steps), lambda: batches)


def save(model: tf_keras.Model, path: str) -> None:
  """Saves a compressed model with masks, clusters, ranges and optimizer.

  What is written is loaded and compared before it takes its place.

  Args:
    model: What `compress` returned.
    path: `model.keras` for a file of Keras; any other name for a directory
      with a SavedModel of the inference, which holds that file, too.

  Raises:
    UsageError: If Keras cannot save a layer of the float model, `path` is not
      local, or there is something else at it.
    Failure: If what was written is not the model.
  """
  keras_models.assert_model(model)
  path = arguments.local_path(path, 'path')
  origin = getattr(model, 'origin', None)
  if origin is not None and not isinstance(origin.float_model, dict):
    raise errors.UsageError(f'model: {origin.float_model or "has no origin"}')
  _assert_replaceable(path)
  temporary = f'{path}.tmp-{uuid.uuid4().hex}'
  file = temporary + '.keras' if path.endswith('.keras') else (
      os.path.join(temporary, _IN_SAVED_MODEL))
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  try:
    if file.startswith(temporary + os.sep):
      model.export(temporary)
      os.makedirs(os.path.dirname(file))
    model.save(file)
    _assert_equal(model, load_model(file, safe_mode=False))
    written = temporary if os.path.isdir(temporary) else file
    if os.path.isdir(path):
      shutil.rmtree(path)
    os.replace(written, path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
    if os.path.exists(file):
      os.remove(file)


def _assert_replaceable(path: str) -> None:
  """Raises `UsageError` for a directory that holds anything but a model."""
  if not os.path.isdir(path) or not os.listdir(path):
    return
  if path.endswith('.keras') or not os.path.exists(
      os.path.join(path, 'saved_model.pb')):
    raise errors.UsageError(
        f'path: {path!r} is a directory that holds no SavedModel; give '
        'another path')


def _assert_equal(model: tf_keras.Model, loaded: tf_keras.Model) -> None:
  """Raises `Failure` unless two models have the same variables."""
  different = [
      variable.name for variable, other in zip(
          model.variables, loaded.variables)
      if variable.shape != other.shape or
      (variable.numpy() != other.numpy()).any()]
  if different or len(model.variables) != len(loaded.variables):
    raise errors.Failure(
        'save: what Keras wrote is not the model; different are '
        f'{", ".join(different[:4]) or "the numbers of variables"}')


def load_model(
    path: str, custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
) -> tf_keras.Model:
  """Returns a model that `save` (or Keras) has written.

  Args:
    path: A `.keras` file, or a directory that `save` wrote; also what
      `tf_keras.models.load_model` takes.
    custom_objects: Classes and functions of the float model that are not
      registered with Keras, by name.
    safe_mode: Whether a model is refused that runs code of its own, such as
      Lambda layers; False only for files that you trust.

  Raises:
    UsageError: If there is no model at `path`, which must be local, it runs
      code, or Keras cannot load it.
  """
  path = arguments.local_path(path, 'path')
  if not os.path.exists(path):
    raise errors.UsageError(f'path: there is no file or directory {path!r}')
  inner = os.path.join(path, _IN_SAVED_MODEL)
  return saved_models.load(
      inner if os.path.exists(inner) else path, 'path', safe_mode,
      custom_objects, compiled=True)
