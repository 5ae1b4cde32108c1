"""Top-k accuracy, the score of image classification."""

from typing import Any

import numpy as np

TOP_K = (1, 5)
# Of more classes no confusion matrix is recorded.
_MOST_CLASSES = 100


class Score:
  """Accuracy of one model, batch by batch."""

  def __init__(self):
    """Starts with nothing counted."""
    self._correct = {k: 0 for k in TOP_K}
    self._num_classes = 0
    self._agreeing = 0.0
    self._num_nan = 0
    self._predictions: list[np.ndarray] = []
    self._labels: list[np.ndarray] = []
    self.num_examples = 0

  def update(
      self, outputs: np.ndarray, labels: np.ndarray, reference: np.ndarray
  ) -> None:
    """Counts one batch.

    Args:
      outputs: float array [n, classes].
      labels: int array [n].
      reference: Outputs of the Keras model on the same images.
    """
    rank = ranks(outputs, labels)
    for k in TOP_K:
      self._correct[k] += np.count_nonzero(rank < k)
    self._agreeing += len(labels) * agreement(outputs, reference)
    self._predictions.append(predicted(outputs))
    self._num_nan += np.count_nonzero(np.isnan(outputs).any(axis=-1))
    self._labels.append(labels)
    self._num_classes = outputs.shape[-1]
    self.num_examples += len(labels)

  @property
  def predictions(self) -> np.ndarray:
    """The predicted classes, int array [num_examples]."""
    return np.concatenate(self._predictions)

  @property
  def labels(self) -> np.ndarray:
    """The true classes, int array [num_examples]."""
    return np.concatenate(self._labels)

  @property
  def right(self) -> np.ndarray:
    """Where the predicted class is the true one, bool array [num_examples]."""
    return self.predictions == self.labels

  @property
  def confusion(self) -> np.ndarray:
    """Numbers of examples [true class, predicted class]."""
    size = max(self._num_classes, int(self.labels.max()) + 1)
    counts = np.zeros([size, size], int)
    np.add.at(counts, (self.labels, self.predictions), 1)
    return counts

  def record(self) -> dict[str, Any]:
    """Returns `metrics`, `num_examples`, `agreement` and `confusion`.

    The agreement is that with Keras; the confusion of few classes is recorded.
    `nan_examples` is there if outputs of so many examples are not numbers.
    """
    confusion = self.confusion
    few = len(confusion) <= _MOST_CLASSES
    return {
        'metrics': {
            f'top_{k}_accuracy': float(self._correct[k] / self.num_examples)
            for k in TOP_K},
        'num_examples': self.num_examples,
        'agreement': float(self._agreeing / self.num_examples),
        **({'confusion': confusion.tolist()} if few else {}),
        **({'nan_examples': self._num_nan} if self._num_nan else {}),
    }


def ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns how many classes come before the true one, int array [n].

  Of equal logits, which int8 outputs often have, the lower index comes first.
  What is not a number comes after all numbers.

  Args:
    logits: Array [n, classes].
    labels: int array [n]. A class that the model does not have comes last.
  """
  logits = _ordered(logits)
  known = (labels >= 0) & (labels < logits.shape[-1])
  index = np.where(known, labels, 0)[:, np.newaxis]
  true = np.take_along_axis(logits, index, axis=-1)
  before = (logits > true) | (
      (logits == true) & (np.arange(logits.shape[-1]) < index))
  return np.where(known, np.count_nonzero(before, axis=-1), logits.shape[-1])


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
  """Returns the share of examples whose label is among the k largest logits.

  Args:
    logits: Array [n, classes].
    labels: int array [n].
    k: At least 1.
  """
  return float(np.mean(ranks(logits, labels) < k))


def agreement(a: np.ndarray, b: np.ndarray) -> float:
  """Returns the share of examples for which two models predict one class."""
  return float(np.mean(predicted(a) == predicted(b)))


def predicted(logits: np.ndarray) -> np.ndarray:
  """Returns the class that comes first, int array [n], see `ranks`."""
  return np.argmax(_ordered(logits), axis=-1)


def _ordered(logits: np.ndarray) -> np.ndarray:
  """Returns logits that compare with each other."""
  return np.where(np.isnan(logits), -np.inf, logits) if (
      np.isnan(logits).any()) else logits
