"""What a student learns from a teacher beside labels."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import functools
import threading

import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import rules

# Keeps the relative error of a feature finite where the teacher's is zero.
_EPSILON = 1e-6


def divergence(
    student: tf.Tensor, teacher: tf.Tensor, temperature: float) -> tf.Tensor:
  """Returns T^2 times the mean divergence of the student from the teacher.

  The factor keeps gradients as large as those of labels, whatever T is.
  Source: Hinton et al., arXiv:1503.02531, section 2.

  Args:
    student: Logits [..., classes].
    teacher: Logits of the same shape; they get no gradient.
    temperature: What both are divided by, > 0.

  Returns:
    A scalar >= 0: the Kullback-Leibler divergence in nats, times T^2.
  """
  teacher = tf.stop_gradient(teacher) / temperature
  log_ratio = tf.nn.log_softmax(teacher) - tf.nn.log_softmax(
      student / temperature)
  return temperature**2 * tf.reduce_mean(
      tf.reduce_sum(tf.nn.softmax(teacher) * log_ratio, axis=-1))


def feature_error(
    student: Mapping[str, tf.Tensor], teacher: Mapping[str, tf.Tensor]
) -> tf.Tensor:
  """Returns the mean over features of the relative squared error.

  Args:
    student: Outputs of layers by path.
    teacher: The same of the teacher; they get no gradient.

  Returns:
    A scalar >= 0; 1 is the error of a student whose features are all zero.
  """
  found = []
  for path, reference in teacher.items():
    reference = tf.stop_gradient(reference)
    found.append(
        tf.reduce_mean(tf.square(student[path] - reference))
        / (tf.reduce_mean(tf.square(reference)) + _EPSILON))
  return tf.add_n(found) / len(found)


class Features:
  """Collects what some layers of a model compute.

  The layers are watched for as long as the model lives. Every replica of a
  strategy runs in a thread of its own, and collects its own tensors.
  """

  def __init__(self, model: tf_keras.Model, paths: Sequence[str], field: str):
    """Starts to watch the layers.

    Args:
      model: A model, or its compressed counterpart.
      paths: Their paths.
      field: Name of the field in messages.

    Raises:
      UsageError: If the model has no layer of a path.
    """
    self._replica = threading.local()
    layers = dict(named_layers(model)) if paths else {}
    for path in paths:
      if path not in layers:
        raise errors.UsageError(f'{field}: no layer of the model has the path '
                                f'{path!r}{errors.nearest(path, layers)}')
      layer = layers[path]
      internals.set_untracked(
          layer, call=functools.partial(self._noted, path, layer.call))

  def _noted(self, path, call, *args, **kwargs):
    output = call(*args, **kwargs)
    found = getattr(self._replica, 'found', None)
    if found is not None:
      # A block may return endpoints beside its output.
      found[path] = tf.cast(tf.nest.flatten(output)[0], tf.float32)
    return output

  @contextlib.contextmanager
  def collected(self) -> Iterator[dict[str, tf.Tensor]]:
    """Collects the outputs of what is called inside of the context."""
    self._replica.found = found = {}
    try:
      yield found
    finally:
      self._replica.found = None


def named_layers(
    model: tf_keras.Model, prefix: str = ''
) -> Iterable[tuple[str, tf_keras.layers.Layer]]:
  """Yields path and layer of all layers of a model and of nested ones."""
  backbone = getattr(model, 'backbone', None)
  paths = rules.layer_paths(model.layers, prefix)
  for layer in model.layers:
    path = 'backbone' if layer is backbone else paths[id(layer)]
    if isinstance(layer, tf_keras.Model):
      yield from named_layers(layer, f'{path}/')
    else:
      yield path, layer
