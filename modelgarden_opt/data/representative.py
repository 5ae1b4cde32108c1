"""Images that stand for what a deployed model will see."""

from collections.abc import Iterator
import itertools
from typing import Any

import numpy as np
from official.core import base_task

from modelgarden_opt.data import inputs


def calibration_images(
    task: base_task.Task, num_images: int
) -> Iterator[np.ndarray]:
  """Yields preprocessed training images, without augmentation.

  Args:
    task: The task, which names and preprocesses the training data.
    num_images: How many at most.

  Yields:
    float32 images of shape [1, height, width, channels].
  """
  data = task.build_inputs(inputs.for_calibration(task.task_config.train_data))
  images = (image for batch, _ in data for image in batch.numpy())
  for image in itertools.islice(images, num_images):
    yield image[np.newaxis]


def data_config(task: base_task.Task, split: str) -> inputs.DataConfig:
  """Returns the input of a split; without test data that of validation."""
  config = getattr(task.task_config, f'{split}_data', None)
  return config or task.task_config.validation_data


def labelled_images(
    task: base_task.Task, split: str) -> Iterator[tuple[np.ndarray, Any]]:
  """Yields one pass over a split, preprocessed for evaluation.

  Args:
    task: The task, which names and preprocesses the data.
    split: `train`, `validation` or `test`.

  Yields:
    Images [b, height, width, channels] and labels (of segmentation: a
    dictionary), batch by batch.
  """
  data = task.build_inputs(data_config(task, split).replace(
      is_training=False, drop_remainder=False))
  yield from data.as_numpy_iterator()
