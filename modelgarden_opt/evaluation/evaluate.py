"""Scores a run's Keras model and `.tflite` files on the same images."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import io
import sys
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from modelgarden_opt import errors
from modelgarden_opt import files as files_lib
from modelgarden_opt.data import inputs
from modelgarden_opt.data import representative
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import classification
from modelgarden_opt.evaluation import paired
from modelgarden_opt.evaluation import segmentation
from modelgarden_opt.evaluation import workers
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.tasks import semantic_segmentation


def evaluate(
    model_dir: str,
    files: Iterable[str] = (),
    split: str = 'test',
    checkpoint: str = 'best',
    predictions: str = '',
    limit: int | None = None,
    num_workers: int | None = None,
) -> list[Mapping[str, Any]]:
  """Scores a run's Keras model and files on one split, in one pass over it.

  The files run on a batch while the Keras model does, and while the next batch
  is decoded.

  Args:
    model_dir: The run directory, which names data and preprocessing.
    files: Paths of `.tflite` files of that model, or of any with its input.
    split: `train`, `validation` or `test`.
    checkpoint: Checkpoint of the Keras model, see `run_directory.load`.
    predictions: Path of a `.npz` file for the predictions of classifiers:
      `models` [m], `labels` [n] and `classes` [m, n]. Empty: none is written.
    limit: How many images at most; None for all.
    num_workers: How many images each file is run on at once, see
      `workers.Workers`.

  Returns:
    One record for the Keras model, then one for every file: `model`, `format`,
    `metrics`, `num_examples`, `agreement` with the Keras model's classes, and
    which data they are of, see `data_record`. Files of classifiers after the
    first one have the `difference` of their top-1 accuracy from it, with its
    95 % confidence interval. Classifiers of at most 100 classes have their
    `confusion`: numbers of images [true class][predicted class].

  Raises:
    UsageError: If the run, its checkpoint or a file cannot be read.
  """
  run = run_directory.load(model_dir, checkpoint)
  keras = make_score(run, split)
  scores = {path: make_score(run, split) for path in files}
  with workers.Workers(list(scores), num_workers) as running:
    for images, labels in _limited(
        representative.labelled_images(run.task, split), limit):
      pending = running.start(images)
      reference = run.predict(images)
      keras.update(reference, labels, reference)
      for path, outputs in pending.outputs().items():
        scores[path].update(outputs, labels, reference)
  data = data_record(run, split, checkpoint)
  if predictions:
    _write_predictions(predictions, {model_dir: keras, **scores})
  return [
      {'model': model_dir, 'format': 'keras', **keras.record(), **data},
      *({'model': path, 'format': census.file_format(path), **score.record(),
         **_difference(score, next(iter(scores.values()))), **data}
        for path, score in scores.items()),
  ]


def _limited(
    batches: Iterable[tuple[np.ndarray, Any]], limit: int | None,
) -> Iterator[tuple[np.ndarray, Any]]:
  """Yields batches until `limit` images, with a bar on a terminal."""
  left = sys.maxsize if limit is None else limit
  with tqdm.tqdm(total=limit, unit='image', dynamic_ncols=True,
                 disable=None) as bar:
    for images, labels in batches:
      images, labels = tf.nest.map_structure(
          lambda values, count=left: values[:count], (images, labels))
      yield images, labels
      left -= len(images)
      bar.update(len(images))
      if not left:
        return


def _difference(score: Any, first: Any) -> dict[str, Any]:
  if score is first or not isinstance(score, classification.Score):
    return {}
  return {'difference': paired.difference(score.right, first.right).record()}


def _write_predictions(path: str, scores: Mapping[str, Any]) -> None:
  first = next(iter(scores.values()))
  if not isinstance(first, classification.Score):
    raise errors.UsageError(
        'predictions: those of image classification only can be kept')
  content = io.BytesIO()
  np.savez_compressed(
      content, models=list(scores), labels=first.labels,
      classes=np.stack([score.predictions for score in scores.values()]))
  files_lib.write_atomically(path, content.getvalue())


def data_record(
    run: run_directory.Run, split: str, checkpoint: str) -> dict[str, str]:
  """Returns which data a split is, and what training did with them.

  Args:
    run: The run.
    split: The split that was asked for.
    checkpoint: What was asked for as a checkpoint.

  Returns:
    `split`; `data`, the field of the task that was read, which is
    `validation_data` where the task has no data of the split; and `data_role`:
    `trained_on`, `chose_checkpoint` (the best checkpoint is the best one on
    them), `validation`, or `unseen`.
  """
  config = run.task.task_config
  field = f'{split}_data'
  if getattr(config, field, None) is None:
    field = 'validation_data'
  data = getattr(config, field)
  if field == 'train_data' or inputs.overlap(data, config.train_data):
    role = 'trained_on'
  elif field == 'validation_data' or inputs.overlap(
      data, config.validation_data):
    chosen = (checkpoint == 'best' and
              run.params.trainer.best_checkpoint_export_subdir)
    role = 'chose_checkpoint' if chosen else 'validation'
  else:
    role = 'unseen'
  return {'split': split, 'data': field, 'data_role': role}


def make_score(run: run_directory.Run, split: str):
  """Returns an empty score of the run's task."""
  if not isinstance(run.task, semantic_segmentation.SemanticSegmentationTask):
    return classification.Score()
  data = representative.data_config(run.task, split)
  return segmentation.Score(
      run.params.task.model.num_classes,
      rescale=not data.resize_eval_groundtruth)
