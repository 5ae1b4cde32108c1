"""Scores a run's Keras model and `.tflite` files on the same images."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import io
import sys
import time
from typing import Any

import numpy as np
from official.core import task_factory
import tensorflow as tf
import tqdm

from modelgarden_opt import errors
from modelgarden_opt import files as files_lib
from modelgarden_opt.data import defects
from modelgarden_opt.data import inputs
from modelgarden_opt.data import other_data
from modelgarden_opt.data import representative
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import classification
from modelgarden_opt.evaluation import file_worker
from modelgarden_opt.evaluation import paired
from modelgarden_opt.evaluation import segmentation
from modelgarden_opt.evaluation import workers
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.tasks import semantic_segmentation

REFERENCES = ('keras', 'none')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """What else may be asked of an evaluation.

  Attributes:
    checkpoint: Checkpoint of the Keras model, see `run_directory.load`.
    predictions: Path of a `.npz` file for the predictions of classifiers:
      `models` [m], `labels` [n] and `classes` [m, n]. Empty: none is written.
    limit: How many images at most; None for all.
    num_workers: How many processes run the files, see `workers.Workers`.
    data: Data set whose split takes the place of the run's, see
      `other_data.use`; empty for the run's own.
    reference: `keras`, or `none`: then only the files are scored, and the
      first one takes the place of the Keras model.
    time_limit: Seconds that a file may take to load, and on a batch; None for
      as long as it takes.
  """
  checkpoint: str = 'best'
  predictions: str = ''
  limit: int | None = None
  num_workers: int | None = None
  data: str = ''
  reference: str = 'keras'
  time_limit: float | None = None


@dataclasses.dataclass(frozen=True)
class Speed:
  """How fast an evaluation was.

  Attributes:
    num_images: Number of images.
    seconds: From when the first batch was asked for to the last score; model
      and input are traced before.
    file_seconds: How long files ran, as the mean of their processes.
    invoke_seconds: The part of it that TFLite took.
  """
  num_images: int
  seconds: float
  file_seconds: float
  invoke_seconds: float

  def __str__(self) -> str:
    text = (f'{errors.counted(self.num_images, "image")} in {self.seconds:.1f} '
            f's, {self.num_images / self.seconds:,.0f} images/s')
    if self.invoke_seconds:
      share = self.invoke_seconds / self.seconds
      text += f'; TFLite computed for {share:.0%} of it'
    return text


def evaluate(
    model_dir: str, files: Iterable[str] = (), split: str = 'test',
    **options: Any,
) -> list[Mapping[str, Any]]:
  """Scores a run's Keras model and files on one split, in one pass over it.

  The files run on a batch while the Keras model does, and while the next batch
  is decoded.

  Args:
    model_dir: The run directory, which names data and preprocessing.
    files: Paths of `.tflite` files of that model, or of any with its input.
    split: `train`, `validation` or `test`.
    **options: Attributes of `Request`.

  Returns:
    One record for the Keras model, then one for every file: `model`, `format`,
    `metrics`, `num_examples`, `agreement` with the Keras model's classes, and
    which data they are of, see `data_record`. Files after the first one have
    `agreement_with_first`. Files of classifiers after the first one have the
    `difference` of their top-1 accuracy from it, with its 95 % confidence
    interval. Classifiers of at most 100 classes have their `confusion`:
    numbers of images [true class][predicted class].

  Raises:
    UsageError: If the run, its checkpoint or a file cannot be read, or a file
      does not fit.
    Failure: If a file crashes or does not end in time.
  """
  return timed(model_dir, files, split, Request(**options))[0]


def timed(
    model_dir: str, files: Iterable[str], split: str, request: Request
) -> tuple[list[Mapping[str, Any]], Speed]:
  """Returns what `evaluate` returns, and how fast it was."""
  run = _load(model_dir, request)
  notes = other_data.use(
      run.task.task_config, request.data, split) if request.data else []
  files = list(dict.fromkeys(files))  # One score for each.
  scores = {path: make_score(run, split)
            for path in ([model_dir] if run.model is not None else []) + files}
  if not scores:
    raise errors.UsageError(
        'reference: without Keras there has to be a file, received none')
  expected = file_worker.Expected(
      tuple(run.task.task_config.model.input_size),
      run.task.task_config.model.num_classes, _is_segmentation(run))
  with workers.Workers(files, expected, request.num_workers,
                       request.time_limit) as running:
    if run.model is not None:
      run.trace()
    with defects.named(run.task.task_config):
      batches = representative.labelled_images(run.task, split)
      begin = time.perf_counter()
      _score(run, scores, running, _limited(
          batches, request.limit,
          representative.num_examples(run.task, split)), split)
    seconds = time.perf_counter() - begin
    speed = Speed(next(iter(scores.values())).num_examples, seconds,
                  *running.seconds())
  if request.predictions:
    _write_predictions(request.predictions, scores)
  data = data_record(run, split, request.checkpoint)
  if request.data:
    data |= {'data_set': request.data, 'notes': notes}
  return _records(scores, model_dir, files, data), speed


def _load(model_dir: str, request: Request) -> run_directory.Run:
  """Returns the run, without a model if none is wanted."""
  if request.reference not in REFERENCES:
    raise errors.UsageError(
        f'reference: {request.reference!r} is unknown'
        f'{errors.nearest(request.reference, REFERENCES)}')
  if request.reference == 'keras':
    return run_directory.load(model_dir, request.checkpoint)
  params = run_directory.load_params(model_dir)
  return run_directory.Run(
      model_dir, params, task_factory.get_task(
          params.task, logging_dir=model_dir), None, '')


def _score(
    run: run_directory.Run, scores: Mapping[str, Any],
    running: workers.Workers, batches: Iterable[tuple[np.ndarray, Any]],
    split: str,
) -> None:
  """Scores all models batch by batch; one batch runs, the next one waits."""
  waiting = None
  for images, labels in batches:
    pending = running.start(images)
    outputs = {}
    if run.model is not None:
      outputs[run.model_dir] = run.predict(images)
    if waiting:
      _update(scores, *waiting)
    waiting = pending, outputs, labels
  if waiting is None:
    raise errors.UsageError(f'split: {split!r} holds no images')
  _update(scores, *waiting)


def _update(
    scores: Mapping[str, Any], pending: workers.Pending,
    outputs: Mapping[str, np.ndarray], labels: Any,
) -> None:
  """Counts one batch."""
  outputs = {**outputs, **pending.outputs()}
  reference = next(iter(outputs.values()))
  for path, score in scores.items():
    score.update(outputs[path], labels, reference)


def _limited(
    batches: Iterable[tuple[np.ndarray, Any]], limit: int | None,
    total: int | None,
) -> Iterator[tuple[np.ndarray, Any]]:
  """Yields batches until `limit` of `total` images, with a bar on a terminal.
  """
  left = sys.maxsize if limit is None else limit
  total = min(left, total) if total else limit
  with tqdm.tqdm(total=total, unit='image', dynamic_ncols=True,
                 disable=None) as bar:
    for images, labels in batches:
      images, labels = tf.nest.map_structure(
          lambda values, count=left: values[:count], (images, labels))
      yield images, labels
      left -= len(images)
      bar.update(len(images))
      if not left:
        return


def _records(
    scores: Mapping[str, Any], model_dir: str, files: list[str],
    data: Mapping[str, Any],
) -> list[Mapping[str, Any]]:
  """Returns the records of all models, in the order of their scores."""
  found = []
  for path, score in scores.items():
    record = score.record()
    if model_dir not in scores:  # The agreement is that with the first file.
      agreement = record.pop('agreement')
      if path != files[0]:
        record['agreement_with_first'] = agreement
    elif path in files[1:]:
      record |= _agreement(score, scores[files[0]])
    keras = path == model_dir
    found.append({
        'model': path, 'format': 'keras' if keras else census.file_format(path),
        **record, **({} if keras else _difference(score, scores[files[0]])),
        **data})
  return found


def _agreement(score: Any, first: Any) -> dict[str, float]:
  if not isinstance(score, classification.Score):
    return {}
  return {'agreement_with_first': float(
      np.mean(score.predictions == first.predictions))}


def _is_segmentation(run: run_directory.Run) -> bool:
  return isinstance(run.task, semantic_segmentation.SemanticSegmentationTask)


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
  if not _is_segmentation(run):
    return classification.Score()
  data = representative.data_config(run.task, split)
  return segmentation.Score(
      run.params.task.model.num_classes,
      rescale=not data.resize_eval_groundtruth)
