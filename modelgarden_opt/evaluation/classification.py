"""Top-k accuracy of Keras models and `.tflite` files on the same images."""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from modelgarden_opt.data import representative
from modelgarden_opt.evaluation import tflite
from modelgarden_opt.tasks import run_directory

TOP_K = (1, 5)


@dataclasses.dataclass(frozen=True)
class Scored:
  """Outputs of one model on one split.

  Attributes:
    logits: float array [n, classes].
    labels: int array [n].
  """
  logits: np.ndarray
  labels: np.ndarray

  def metrics(self) -> dict[str, float]:
    """Returns `top_1_accuracy` and `top_5_accuracy`, in [0, 1]."""
    return {f'top_{k}_accuracy': top_k_accuracy(self.logits, self.labels, k)
            for k in TOP_K}


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
  """Returns the share of examples whose label is among the k largest logits.

  Of equal logits, which int8 outputs often have, the lower index comes first.

  Args:
    logits: Array [n, classes].
    labels: int array [n].
    k: At least 1.
  """
  order = np.argsort(-logits, axis=-1, kind='stable')[:, :k]
  return float(np.mean(np.any(order == labels[:, np.newaxis], axis=-1)))


def agreement(a: np.ndarray, b: np.ndarray) -> float:
  """Returns the share of examples for which two models predict one class."""
  return float(np.mean(np.argmax(a, axis=-1) == np.argmax(b, axis=-1)))


def score_keras(run: run_directory.Run, split: str) -> Scored:
  """Returns the outputs of a run's Keras model on a split."""
  return _score(
      lambda images: run.model(images, training=False).numpy(),
      representative.labelled_images(run.task, split))


def score_tflite(path: str, run: run_directory.Run, split: str) -> Scored:
  """Returns the outputs of a file on a split, preprocessed as in training."""
  return _score(
      tflite.Model(path), representative.labelled_images(run.task, split))


def _score(model, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Scored:
  outputs, labels = [], []
  for images, batch_labels in batches:
    outputs.append(model(images))
    labels.append(batch_labels)
  return Scored(np.concatenate(outputs), np.concatenate(labels))


def evaluate(
    model_dir: str,
    files: Iterable[str] = (),
    split: str = 'test',
    checkpoint: str = 'best',
) -> list[Mapping[str, Any]]:
  """Scores a run's Keras model and files on one split.

  Args:
    model_dir: The run directory, which names data and preprocessing.
    files: Paths of `.tflite` files of that model, or of any with its input.
    split: `train`, `validation` or `test`.
    checkpoint: Checkpoint of the Keras model, see `run_directory.load`.

  Returns:
    One record for the Keras model, then one for every file: `model`, `format`,
    `metrics`, `num_examples`, and `agreement` with the Keras model's classes.
  """
  run = run_directory.load(model_dir, checkpoint)
  keras = score_keras(run, split)
  results = [_record(model_dir, 'keras', keras, keras)]
  for path in files:
    scored = score_tflite(path, run, split)
    results.append(_record(path, tflite.file_format(path), scored, keras))
  return results


def _record(
    name: str, file_format: str, scored: Scored, keras: Scored
) -> dict[str, Any]:
  return {
      'model': name,
      'format': file_format,
      'metrics': scored.metrics(),
      'num_examples': len(scored.labels),
      'agreement': agreement(scored.logits, keras.logits),
  }
