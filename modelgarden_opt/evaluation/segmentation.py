"""Intersection over union, the score of semantic segmentation.

One resize rule for Keras models and files alike, that of the Model Garden's
metric: logits are resized bilinearly to the ground truth, then comes the
arg-max. A file that ends in labels has the size of its input.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from official.vision.evaluation import segmentation_metrics
import tensorflow as tf


class Score:
  """Mean and per-class IoU of one model, batch by batch."""

  def __init__(self, num_classes: int, rescale: bool):
    """Starts with an empty confusion matrix.

    Args:
      num_classes: Number of classes.
      rescale: Whether the ground truth has the size of the original images
        (`resize_eval_groundtruth: false`).
    """
    self._num_classes, self._rescale = num_classes, rescale
    self._iou = segmentation_metrics.PerClassIoU(
        num_classes, rescale_predictions=rescale)
    self._agreeing = self._num_pixels = self.num_examples = 0

  def update(
      self,
      outputs: np.ndarray,
      labels: Mapping[str, np.ndarray],
      reference: np.ndarray,
  ) -> None:
    """Counts one batch.

    Args:
      outputs: Logits [n, h, w, classes], or classes [n, h, w].
      labels: `masks` and `valid_masks` [n, H, W, 1] and `image_info`, as the
        Model Garden's loader gives them.
      reference: Outputs of the Keras model on the same images.
    """
    logits = self._as_logits(outputs)
    self._iou.update_state(labels, logits)
    size = labels['masks'].shape[1:3]
    same = classes(logits, size) == classes(self._as_logits(reference), size)
    valid = labels['valid_masks'][..., 0].astype(bool)
    self._agreeing += int(np.sum(same & valid))
    self._num_pixels += int(np.sum(valid))
    self.num_examples += len(outputs)

  def confusion(
      self, outputs: np.ndarray, labels: Mapping[str, np.ndarray]
  ) -> np.ndarray:
    """Returns numbers of pixels [true class, predicted class]; counts nothing.

    Args:
      outputs: See `update`.
      labels: See `update`.
    """
    counted = segmentation_metrics.PerClassIoU(
        self._num_classes, rescale_predictions=self._rescale)
    counted.update_state(labels, self._as_logits(outputs))
    return counted.total_cm.numpy()

  def _as_logits(self, outputs: np.ndarray) -> np.ndarray:
    if outputs.ndim == 4:
      return outputs
    return np.eye(self._num_classes, dtype=np.float32)[outputs.astype(int)]

  def record(self) -> dict[str, Any]:
    """Returns `metrics`, `per_class_iou`, `num_examples` and `agreement`.

    `agreement` is the share of labelled pixels with the class of Keras.
    """
    ious = self._iou.result().numpy()
    return {
        'metrics': {'mean_iou': float(np.mean(ious))},
        'per_class_iou': [float(iou) for iou in ious],
        'num_examples': self.num_examples,
        'agreement': self._agreeing / self._num_pixels,
    }


def classes(logits: np.ndarray, size) -> np.ndarray:
  """Returns the class of every pixel.

  Args:
    logits: float array [n, h, w, classes].
    size: Height and width of the result, to which logits are resized.
  """
  return tf.argmax(tf.image.resize(logits, size), axis=-1).numpy()
