"""What classifiers predicted, image by image, as `evaluate` keeps it."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import math
from typing import Any
import zipfile

import numpy as np

from modelgarden_opt import files
from modelgarden_opt.evaluation import paired


@dataclasses.dataclass(frozen=True)
class Predictions:
  """Predictions of one model.

  Attributes:
    labels: The true classes, int array [n].
    classes: The predicted ones, int array [n].
  """
  labels: np.ndarray
  classes: np.ndarray

  @property
  def right(self) -> np.ndarray:
    """Where the predicted class is the true one, bool array [n]."""
    return self.labels == self.classes

  def confusion(self, num_classes: int) -> np.ndarray:
    """Returns how often class i was taken for class j: int [i, j]."""
    counts = np.zeros([num_classes, num_classes], np.int64)
    np.add.at(counts, (self.labels, self.classes), 1)
    return counts


def load(
    paths: Iterable[str], path_of: Callable[[str], str],
    scores: Mapping[str, Mapping[str, Any]],
) -> dict[str, Predictions]:
  """Returns predictions by the path of their model.

  Args:
    paths: Files of `evaluate --predictions`; what is none is left out.
    path_of: Returns the path of the file that a record calls by a name.
    scores: The evaluation of files that counts; predictions of other images,
      or of what the file was before, are left out.
  """
  found = {}
  for path in paths:
    try:
      with files.local(path) as there, np.load(there) as arrays:
        models, labels, classes = (
            arrays[name] for name in ('models', 'labels', 'classes'))
    except (KeyError, OSError, ValueError, zipfile.BadZipFile):
      continue
    for model, predicted in zip(models, classes):
      name, made = path_of(str(model)), Predictions(labels, predicted)
      if name not in scores or _is_of(made, scores[name]):
        found[name] = made
  return found


def _is_of(made: Predictions, score: Mapping[str, Any]) -> bool:
  """Whether an evaluation is that of these predictions."""
  accuracy = score.get('metrics', {}).get('top_1_accuracy')
  return (len(made.labels) == score.get('num_examples') and accuracy is not None
          and math.isclose(accuracy, made.right.mean(), abs_tol=1e-6))


def difference(
    a: Predictions | None, b: Predictions | None) -> dict[str, Any] | None:
  """Returns how much more often one model is right than another.

  None where either is not known or they did not see the same images.
  """
  if a is None or b is None or not np.array_equal(a.labels, b.labels):
    return None
  return paired.difference(a.right, b.right).record()
