"""What a change of a model does to its metric and to its outputs."""

from typing import Any
from typing import Protocol

import numpy as np
import tensorflow as tf

from modelgarden_opt.evaluation import classification
from modelgarden_opt.evaluation import paired
from modelgarden_opt.evaluation import segmentation
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.tasks import semantic_segmentation

# Resamples of the images for an interval of the mean IoU, and their seed.
_RESAMPLES, _SEED = 1000, 0
# Probabilities of integer files are multiples of 1/256; 0 has no logarithm.
_LEAST = 1e-3


class Judge(Protocol):
  """Compares outputs of a model on the same labelled images."""

  metric: str

  def value(self, outputs: np.ndarray) -> float:
    """Returns the metric of outputs."""

  def difference(self, a: np.ndarray, b: np.ndarray) -> paired.Difference:
    """Returns the metric of outputs `a` minus that of `b`."""


def divergence(reference: np.ndarray, outputs: np.ndarray) -> float:
  """Returns the mean KL divergence of class probabilities, in nats.

  Args:
    reference: Logits [..., classes] of the model that counts as right, or
      probabilities if it ends in a softmax.
    outputs: The same of the other model.
  """
  are = reference.min() >= 0 and np.allclose(
      reference.sum(axis=-1), 1.0, atol=1e-3)
  logs = _log_normalized if are else _log_softmax
  p, q = logs(reference), logs(outputs)
  return float(max(0.0, np.mean(np.sum(np.exp(p) * (p - q), axis=-1))))


def _log_normalized(probabilities: np.ndarray) -> np.ndarray:
  positive = np.maximum(probabilities.astype(np.float64), _LEAST)
  return np.log(positive / positive.sum(axis=-1, keepdims=True))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
  shifted = logits.astype(np.float64)
  shifted -= shifted.max(axis=-1, keepdims=True)
  return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


class Classification:
  """Top-1 accuracy."""

  metric = 'top_1_accuracy'

  def __init__(self, labels: np.ndarray):
    """Starts with the labels, int array [n]."""
    self._labels = labels

  def value(self, outputs: np.ndarray) -> float:
    """Returns the accuracy of logits [n, classes]."""
    return float(np.mean(self._right(outputs)))

  def difference(self, a: np.ndarray, b: np.ndarray) -> paired.Difference:
    """Returns accuracy of `a` minus that of `b`, see `paired.difference`."""
    return paired.difference(self._right(a), self._right(b))

  def _right(self, outputs: np.ndarray) -> np.ndarray:
    return classification.ranks(outputs, self._labels) == 0


class Segmentation:
  """Mean IoU, with an interval by bootstrap over images."""

  metric = 'mean_iou'

  def __init__(self, labels: dict[str, np.ndarray], score: segmentation.Score):
    """Initializes the judge.

    Args:
      labels: Of n images, as `segmentation.Score.update` takes them.
      score: An empty score of the task.
    """
    self._labels = labels
    self._score = score
    count = len(labels['masks'])
    rng = np.random.default_rng(_SEED)
    self._weights = rng.multinomial(
        count, np.full(count, 1.0 / count), size=_RESAMPLES)
    self._known: tuple[Any, np.ndarray] = (None, np.zeros(0))

  def value(self, outputs: np.ndarray) -> float:
    """Returns the mean IoU of logits [n, h, w, classes]."""
    return float(_mean_iou(self._confusions(outputs).sum(axis=0)))

  def difference(self, a: np.ndarray, b: np.ndarray) -> paired.Difference:
    """Returns the mean IoU of `a` minus that of `b`.

    The interval is that of the middle 95 % of resamples of the images, the
    same images for both.
    """
    of_a, of_b = self._of_reference(a), self._confusions(b)
    drawn = [_mean_iou(np.tensordot(self._weights, found, 1))
             for found in (of_a, of_b)]
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    value = _mean_iou(of_a.sum(axis=0)) - _mean_iou(of_b.sum(axis=0))
    return paired.Difference(float(value), float(low), float(high))

  def _of_reference(self, outputs: np.ndarray) -> np.ndarray:
    """Returns confusions of what everything is compared with, found once."""
    if self._known[0] is not outputs:
      self._known = outputs, self._confusions(outputs)
    return self._known[1]

  def _confusions(self, outputs: np.ndarray) -> np.ndarray:
    """Returns the pixels of every image, [n, true class, predicted class]."""
    return np.stack([
        self._score.confusion(
            outputs[index:index + 1],
            {name: values[index:index + 1]
             for name, values in self._labels.items()})
        for index in range(len(outputs))])


def _mean_iou(confusion: np.ndarray) -> np.ndarray:
  """Returns the mean IoU of confusions [..., classes, classes].

  A class that neither labels nor predictions have counts as 0, as in the Model
  Garden's metric.
  """
  right = np.diagonal(confusion, axis1=-2, axis2=-1)
  union = confusion.sum(axis=-1) + confusion.sum(axis=-2) - right
  return np.mean(right / np.maximum(union, 1), axis=-1)


def make(run: run_directory.Run, labels: Any, score: Any) -> Judge:
  """Returns the judge of a run's task.

  Args:
    run: The run.
    labels: The labels of all images.
    score: An empty score of the task, see `evaluate.make_score`.
  """
  if isinstance(run.task, semantic_segmentation.SemanticSegmentationTask):
    return Segmentation(labels, score)
  return Classification(np.asarray(labels))


def concatenate(batches: list[Any]) -> Any:
  """Returns labels of batches as those of one."""
  return tf.nest.map_structure(
      lambda *values: np.concatenate(values), *batches)
