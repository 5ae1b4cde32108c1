"""A few images of a split with what files see in them, for a report.

Kept as JSON: `split`, `model_dir`, and `samples` with `index` (of the image in
its split), `label` (classifiers), `picture` (PNG as a data URI) and
`predictions`: `model`, and of classifiers `class` and `probability`, of
segmentation `overlay`, a picture like the first one.
"""

import base64
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import io
from typing import Any

import numpy as np
from official.core import task_factory
from official.vision.ops import preprocess_ops
from PIL import Image
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.data import representative
from modelgarden_opt.evaluation import apart
from modelgarden_opt.evaluation import predict
from modelgarden_opt.evaluation import segmentation
from modelgarden_opt.tasks import run_directory

# Images are chosen among so many, the first ones of the split.
_MOST_SCANNED = 2000
# Larger pictures are scaled down.
_MOST_PIXELS = 160


def collect(
    model_dir: str,
    paths: Sequence[str],
    number: int,
    predictions: Mapping[str, np.ndarray] | None = None,
    split: str = 'test',
) -> dict[str, Any]:
  """Returns images of a run's data with what files see in them.

  Half of them are images that the files see differently, where predictions tell
  which ones those are; the others come in the order of the data.

  Args:
    model_dir: The run directory, which names data and preprocessing.
    paths: The files.
    number: How many images at most.
    predictions: Predicted classes of the split by file, int [n].
    split: `train`, `validation` or `test`.

  Raises:
    UsageError: If the run or its data cannot be read.
  """
  params = run_directory.load_params(model_dir)
  task = task_factory.get_task(params.task)
  chosen = _choose(number, [c for c in (predictions or {}).values()])
  try:
    taken = _take(task, split, chosen)
  except (OSError, ValueError, tf.errors.OpError) as e:
    raise errors.UsageError(
        f'the data of {model_dir!r} cannot be read: {errors.of_op(e)}'
    ) from None
  with contextlib.ExitStack() as stack:
    models = [stack.enter_context(apart.Model(path)) for path in paths]
    return {'split': split, 'model_dir': model_dir, 'samples': [
        {'index': index, **({'label': label} if label is not None else {}),
         'picture': _png(_picture(image)),
         'predictions': [{'model': model.path, **_seen(model, image)}
                         for model in models]}
        for index, image, label in taken]}


def _choose(number: int, classes: Sequence[np.ndarray]) -> list[int]:
  """Returns the indices of the images to show, in order."""
  if not classes:
    return list(range(number))
  seen = np.stack([c[:_MOST_SCANNED] for c in classes])
  apart = np.flatnonzero((seen != seen[0]).any(axis=0))[:-(-number // 2)]
  alike = np.setdiff1d(np.arange(seen.shape[1]), apart)
  return sorted(map(int, [*apart, *alike[:number - len(apart)]]))


def _take(
    task: Any, split: str, chosen: Sequence[int]
) -> list[tuple[int, np.ndarray, int | None]]:
  """Returns index, image [h, w, c] and label of the chosen images."""
  found, start = [], 0
  for images, labels in representative.labelled_images(task, split):
    end = start + len(images)
    for index in [i for i in chosen[len(found):] if i < end]:
      whole = not isinstance(labels, Mapping)
      found.append((index, images[index - start],
                    int(labels[index - start]) if whole else None))
    start = end
    if len(found) == len(chosen):
      break
  return found


def _picture(image: np.ndarray) -> np.ndarray:
  """Returns a preprocessed image as uint8 [h, w, 3]."""
  pixels = image * np.asarray(preprocess_ops.STDDEV_RGB) + np.asarray(
      preprocess_ops.MEAN_RGB)
  return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def _seen(model: apart.Model, image: np.ndarray) -> dict[str, Any]:
  outputs = model(image[np.newaxis].astype(np.float32))
  if outputs.ndim == 2:
    probabilities = tf.nn.softmax(outputs[0]).numpy()
    best = int(np.argmax(outputs[0]))
    return {'class': best, 'probability': round(float(probabilities[best]), 4)}
  labels = (segmentation.classes(outputs, image.shape[:2])
            if outputs.ndim == 4 else outputs)[0].astype(np.int64)
  shown = predict.Prediction([], labels, _picture(image))
  return {'overlay': _png(predict.overlay(shown))}


def _png(pixels: np.ndarray) -> str:
  """Returns a picture as a data URI, scaled down to `_MOST_PIXELS`."""
  picture = Image.fromarray(pixels)
  picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
  content = io.BytesIO()
  picture.save(content, 'PNG', optimize=True)
  return ('data:image/png;base64,' +
          base64.b64encode(content.getvalue()).decode())
