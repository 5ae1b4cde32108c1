"""Float models that users build or save with tf_keras."""

from collections.abc import Callable
import inspect
import os
from typing import Any

from official.vision.modeling import factory as official_factory
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import user_modules
from modelgarden_opt.modeling import saved_models

# What a run directory keeps of a model that was read from a file.
FILE = 'keras_model.json'
_FIELD = 'task.model.backbone.keras'


def assert_model(model: Any, field: str = 'model') -> None:
  """Raises `UsageError` for what is no model of tf_keras.

  Args:
    model: Anything.
    field: Where it comes from, for messages.
  """
  if isinstance(model, tf_keras.Model):
    return
  kind = type(model).__name__
  if 'keras' in {cls.__module__.split('.')[0] for cls in type(model).__mro__}:
    raise errors.UsageError(
        f'{field}: {getattr(model, "name", "")!r} is a {kind} of Keras 3, '
        f'received where tf_keras (Keras 2) is needed: {saved_models.KERAS_2}')
  raise errors.UsageError(
      f'{field}: expected a tf_keras.Model, received {kind}')


def build_classifier(config: Any, kept: str = '') -> tf_keras.Model:
  """Returns the classifier that `backbone: {type: keras}` describes.

  A model that ends in [b, num_classes] is the whole classifier. One that ends
  in a feature map [b, h, w, c] gets the Model Garden's head: global average
  pooling, dropout, a dense layer.

  Args:
    config: The configuration of a task of image classification.
    kept: Directory of a run that has begun; its model was kept there.

  Raises:
    UsageError: If there is no model, or it does not fit the task.
  """
  options = config.model.backbone.keras
  model = _read(options, kept)
  size = tuple(config.model.input_size)
  if not model.inputs or len(model.inputs) != 1 or (
      tuple(model.inputs[0].shape[1:]) != size):
    shapes = [list(x.shape[1:]) for x in model.inputs or ()]
    raise errors.UsageError(
        f'{_FIELD}: the model takes {shapes or "an unknown input"}, expected '
        f'one image of task.model.input_size {list(size)}')
  outputs = tf.nest.flatten(model.outputs)
  rank = len(outputs[0].shape)
  if len(outputs) != 1 or rank not in (2, 4):
    raise errors.UsageError(
        f'{_FIELD}: expected one output, a feature map [b, h, w, c] or '
        f'[b, num_classes], received {[list(x.shape) for x in outputs]}')
  if rank == 2:
    return _whole(model, config)
  backbone = tf_keras.Model(model.inputs, {'1': outputs[0]}, name=model.name)
  built = official_factory.build_classification_model(
      tf_keras.layers.InputSpec(shape=[None, *size]), config.model,
      backbone=backbone)
  if config.freeze_backbone:
    backbone.trainable = False
  return built


def _whole(model: tf_keras.Model, config: Any) -> tf_keras.Model:
  """Returns a model that is a classifier already, if it fits the task."""
  count, classes = model.outputs[0].shape[-1], config.model.num_classes
  if count != classes:
    raise errors.UsageError(
        f'{_FIELD}: the model ends in {count} values, task.model.num_classes '
        f'is {classes}; return {classes} logits, or a feature map '
        '[b, h, w, c] (include_top: false), to which a head is added')
  last = model.layers[-1]
  activation = getattr(last, 'activation', None)
  if isinstance(last, tf_keras.layers.Softmax) or (
      getattr(activation, '__name__', '') == 'softmax'):
    raise errors.UsageError(
        f'{_FIELD}: the model ends in a softmax ({last.name}), and the loss '
        'takes logits; leave it out (of tf_keras.applications: '
        'arguments: {classifier_activation: null})')
  if config.freeze_backbone:
    raise errors.UsageError(
        'task.freeze_backbone: needs a model that ends in a feature map, '
        f'received one that ends in {count} logits')
  return model


def _read(options: Any, kept: str) -> tf_keras.Model:
  """Builds or loads the model."""
  if bool(options.builder) == bool(options.path):
    raise errors.UsageError(
        f'{_FIELD}: needs either builder: package.module:function or path: a '
        'saved model of tf_keras, received '
        + ('both' if options.path else 'neither'))
  if options.path:
    return _load(options, kept)
  build = user_modules.attribute(options.builder, f'{_FIELD}.builder')
  arguments = options.arguments.as_dict() if options.arguments else {}
  model = _called(build, options.builder, arguments)
  assert_model(model, f'{_FIELD}.builder')
  return model


def _called(build: Callable[..., Any], name: str, arguments: dict) -> Any:
  """Returns what a user's function builds.

  Raises:
    UsageError: If it does not take the arguments, or raises anything.
  """
  try:
    inspect.signature(build).bind(**arguments)
  except TypeError as e:
    given = ', '.join(arguments) or 'none'
    raise errors.UsageError(
        f'{_FIELD}.arguments: {name} takes '
        f'{inspect.signature(build)}, received {given}: {e}') from e
  except ValueError:  # Of a function that is not written in Python.
    pass
  try:
    return build(**arguments)
  except errors.UsageError:
    raise
  except Exception as e:
    raise errors.UsageError(
        f'{_FIELD}.builder: {name} failed: {errors.of_user_code(e)}') from e


def _load(options: Any, kept: str) -> tf_keras.Model:
  """Loads a saved model, of a run that has begun from its directory."""
  file = os.path.join(kept, FILE)
  field = f'{_FIELD}.path'
  if kept and tf.io.gfile.exists(file):
    return saved_models.from_config(
        files.read_json(file), file, field, options.safe_mode)
  if not tf.io.gfile.exists(options.path):
    raise errors.UsageError(
        f'{field}: there is no file or directory {options.path!r}')
  model = saved_models.load(options.path, field, options.safe_mode)
  assert_model(model, field)
  return model


def keep(config: Any, directory: str) -> None:
  """Keeps what was read from `backbone.keras.path`, without its weights.

  The run can then be evaluated and exported where the file is gone.

  Args:
    config: The configuration of a task.
    directory: The run directory.
  """
  backbone = getattr(config.model, 'backbone', None)
  if getattr(backbone, 'type', '') != 'keras' or not backbone.keras.path:
    return
  model = _load(backbone.keras, directory)
  files.write_json(os.path.join(directory, FILE),
                   tf_keras.saving.serialize_keras_object(model))
