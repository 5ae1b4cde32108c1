"""Accuracy and latency of models in memory and of files."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import os
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.api import arguments
from modelgarden_opt.api import compressing
from modelgarden_opt.benchmark import latency
from modelgarden_opt.evaluation import apart
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import classification
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling import keras_models


def evaluate(
    model: tf_keras.Model | str, data: Any,
    reference: tf_keras.Model | str | None = None,
) -> Mapping[str, Any]:
  """Returns the accuracy of a classifier.

  Args:
    model: A model, the path of a `.tflite` file, or of what `save` wrote.
    data: Images and labels, preprocessed: a pair of arrays [n, h, w, c] and
      [n] (or one-hot [n, classes]), or a `tf.data.Dataset` of such batches.
    reference: A model or a path whose predictions the others are compared
      with; None for no comparison.

  Returns:
    `model`, `format`, `metrics` (`top_1_accuracy`, `top_5_accuracy`),
    `num_examples` and, with a reference, `agreement`.

  Raises:
    UsageError: If a file is missing, or the data do not fit.
  """
  score = classification.Score()
  with contextlib.ExitStack() as files:
    predict, record = _predictor(model, files)
    compare = None
    if reference is not None:
      compare, _ = _predictor(reference, files)
    _add(score, data, predict, compare)
  if not score.num_examples:
    raise errors.UsageError('data: holds no images')
  found = score.record()
  if compare is None:
    del found['agreement']
  return {**record, **found}


def _add(score: classification.Score, data: Any, predict, compare) -> None:
  """Scores all images of `evaluate`."""
  for images, labels in arguments.labelled(data, 'data'):
    if labels is None:
      raise errors.UsageError(
          'data: expected images and labels, received images only')
    images = arguments.floats(images, 'data')
    outputs = predict(images)
    if outputs.ndim != 2:
      raise errors.UsageError(
          'model: expected one of classes, [n, classes], received outputs of '
          f'shape {list(outputs.shape)}')
    score.update(outputs, _classes(labels, outputs.shape[-1]),
                 outputs if compare is None else compare(images))


def _predictor(model: tf_keras.Model | str, files: contextlib.ExitStack):
  """Returns a function from images to outputs, and what is said of a model.

  Args:
    model: A model or a path.
    files: Closes the process of a file.
  """
  if isinstance(model, (str, os.PathLike)):
    path = os.fspath(model)
    if path.endswith('.tflite'):
      return files.enter_context(apart.Model(path)), {
          'model': path, 'format': census.file_format(path)}
    model, record = compressing.load_model(path), {'model': path}
  else:
    keras_models.assert_model(model)
    record = {'model': model.name}

  def predict(images: np.ndarray) -> np.ndarray:
    outputs = model(tf.constant(images), training=False)
    return factory.logits(outputs).numpy()

  return predict, {**record, 'format': 'keras'}


def _classes(labels: Any, num_classes: int) -> np.ndarray:
  """Returns labels as integers [n], in whatever form they were given."""
  labels = np.asarray(labels)
  if labels.ndim == 2:
    labels = labels[:, 0] if labels.shape[1] == 1 else np.argmax(labels, -1)
  wrong = labels[(labels < 0) | (labels >= num_classes)]
  if wrong.size:
    raise errors.UsageError(
        f'data: labels must lie in 0 to {num_classes - 1}, the classes of the '
        f'model, received {wrong[0]}')
  return labels.astype(int)


def benchmark(paths: Sequence[str] | str, **options: Any) -> Mapping[str, Any]:
  """Times `.tflite` files against each other, see `benchmark.latency`.

  Args:
    paths: A file or several.
    **options: `num_threads` (a number or several), `num_runs`, `seed`,
      `delegates`, `num_warm_up` and `time_limit`.

  Returns:
    `environment`, and `results` with one record a file.

  Raises:
    UsageError: If a file is missing or cannot be loaded.
  """
  single = isinstance(paths, (str, os.PathLike)) or (
      not isinstance(paths, Iterable))
  paths = [paths] if single else [*paths]
  if not paths:
    raise errors.UsageError('paths: expected one file at least, received none')
  for name in ('num_threads', 'num_runs', 'num_warm_up'):
    values = options.get(name, 1)
    if min([values] if isinstance(values, int) else values, default=0) < 1:
      raise errors.UsageError(
          f'{name}: must be >= 1, received {options[name]}')
  return latency.benchmark(
      [arguments.path(path, 'paths') for path in paths], **options)
