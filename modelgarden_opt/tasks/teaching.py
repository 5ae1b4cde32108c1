"""A teacher that a task's model learns from, beside the labels."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import threading
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.modeling import distilling
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.state import checkpoints
from modelgarden_opt.tasks import run_directory

_FIELD = 'task.distillation'


class Teacher:
  """Adds to the loss of a training step what the teacher says of its images.

  The teacher runs in inference mode and in float32, its variables are neither
  trained nor part of checkpoints. Replicas of a strategy run in threads of
  their own; so what is known of the present step is kept by thread.
  """

  def __init__(
      self,
      config: Any,
      student: tf_keras.Model,
      build_float_model: Callable[[], tf_keras.Model],
  ):
    """Loads the teacher.

    Args:
      config: The configuration of the student's task.
      student: The model that is trained.
      build_float_model: Builds the float model of the task.

    Raises:
      UsageError: If there is no teacher, or it does not fit the student.
    """
    self._config = config.distillation
    policy = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy('float32')
    try:
      self._model = _load(config, build_float_model)
    finally:
      tf_keras.mixed_precision.set_global_policy(policy)
    paths, field = self._config.features, f'{_FIELD}.features'
    self._of_teacher = distilling.Features(self._model, paths, field)
    self._of_student = distilling.Features(student, paths, field)
    if paths:
      self._assert_same_shapes(student, config.model.input_size)
    self._step = threading.local()

  def _assert_same_shapes(self, student: tf_keras.Model, input_size) -> None:
    """Raises `UsageError` for features that cannot be compared."""
    image = tf.zeros([1, *input_size])
    with self._of_teacher.collected() as theirs:
      self._model(image, training=False)
    with self._of_student.collected() as own:
      student(image, training=False)
    problems = [
        f'{_FIELD}.features: {path} is {own[path].shape[1:]} in the student '
        f'and {theirs[path].shape[1:]} in the teacher; name layers of equal '
        'shape' for path in theirs if own[path].shape != theirs[path].shape]
    if problems:
      raise errors.UsageError('\n'.join(problems))

  @contextlib.contextmanager
  def step(self, images: tf.Tensor) -> Iterator[None]:
    """Makes `losses` know the images of a training step.

    Args:
      images: [b, h, w, c].
    """
    with self._of_teacher.collected() as features:
      outputs = self._model(images, training=False)
    with self._of_student.collected() as own:
      self._step.known = (factory.logits(outputs), features, own)
      try:
        yield
      finally:
        self._step.known = None

  @property
  def teaches(self) -> bool:
    """Whether a training step is under way in this replica."""
    return getattr(self._step, 'known', None) is not None

  def losses(
      self, own_loss: tf.Tensor, outputs: tf.Tensor | Mapping[str, tf.Tensor]
  ) -> tf.Tensor:
    """Returns the loss of labels and teacher together.

    Args:
      own_loss: Scalar loss of the labels.
      outputs: What the student computed in this step.
    """
    config = self._config
    logits, features, own = self._step.known
    loss = (1.0 - config.weight) * own_loss
    if config.weight:
      loss += config.weight * distilling.divergence(
          factory.logits(outputs), logits, config.temperature)
    if config.features and config.feature_weight:
      loss += config.feature_weight * distilling.feature_error(own, features)
    return loss


def _load(
    config: Any, build_float_model: Callable[[], tf_keras.Model]
) -> tf_keras.Model:
  """Returns the teacher with its weights."""
  path, field = config.distillation.teacher, f'{_FIELD}.teacher'
  if not run_directory.exists(path):
    checkpoints.resolve(path, field)
    model = build_float_model()
    checkpoints.load_checkpoint(model, path, 'all', field)
    return model
  params = run_directory.load_params(path)
  _assert_fits(params.task, config, f'{field}: {path!r}')
  return run_directory.load(path).model


def _assert_fits(theirs: Any, own: Any, name: str) -> None:
  """Raises `UsageError` if a teacher's task is another one."""
  if type(theirs) is not type(own):
    raise errors.UsageError(
        f'{name} is a run of {type(theirs).__name__}, expected one of '
        f'{type(own).__name__}')
  problems = [
      f'{name} has {attribute} {getattr(theirs.model, attribute)}, expected '
      f"the student's {getattr(own.model, attribute)}"
      for attribute in ('num_classes', 'input_size')
      if getattr(theirs.model, attribute) != getattr(own.model, attribute)]
  if problems:
    raise errors.UsageError('\n'.join(problems))
