"""Top-k accuracy, the score of image classification."""

from typing import Any

import numpy as np

TOP_K = (1, 5)


class Score:
  """Accuracy of one model, batch by batch."""

  def __init__(self):
    """Starts with nothing counted."""
    self._correct = {k: 0.0 for k in TOP_K}
    self._agreeing = 0.0
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
    for k in TOP_K:
      self._correct[k] += len(labels) * top_k_accuracy(outputs, labels, k)
    self._agreeing += len(labels) * agreement(outputs, reference)
    self._predictions.append(np.argmax(outputs, axis=-1))
    self._labels.append(labels)
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

  def record(self) -> dict[str, Any]:
    """Returns `metrics`, `num_examples` and `agreement` with Keras."""
    return {
        'metrics': {f'top_{k}_accuracy': self._correct[k] / self.num_examples
                    for k in TOP_K},
        'num_examples': self.num_examples,
        'agreement': self._agreeing / self.num_examples,
    }


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
