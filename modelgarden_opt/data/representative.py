"""Images like those that a deployed model will see.

A few of them are kept in the run directory, so that a run can be exported
where its data are not.
"""

from collections.abc import Iterator
import dataclasses
import io
import itertools
import json
import os
from typing import Any

import numpy as np
from official.core import base_task
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.data import inputs
from modelgarden_opt.data import records
from modelgarden_opt.data import sampling

FILE_NAME = 'representative.npz'
TRAINING_DATA = 'training data'
_MOST, _LEAST = 64, 8
_MAX_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True)
class Images:
  """Preprocessed training images without augmentation.

  Attributes:
    images: float32 array [n, height, width, channels].
    labels: Integer labels [n], or None where the task has others.
    listing: Which records they are, see `sampling.Sample.listing`, and
      `source`: the run directory's file or the training data.
  """
  images: np.ndarray
  labels: np.ndarray | None
  listing: dict[str, Any]


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
  return images_of(
      sampling.sample(task.task_config, num_images), task, num_images)


def images_of(
    sample: sampling.Sample, task: base_task.Task, num_images: int
) -> Iterator[np.ndarray]:
  """Yields the first images of a sample, see `calibration_images`."""
  images = (image for batch, _ in sample.batches(task)
            for image in batch.numpy())
  for image in itertools.islice(images, num_images):
    yield image[np.newaxis].astype(np.float32)


def draw(task: base_task.Task) -> Images:
  """Returns 8 to 64 training images, as many as 16 MiB of float16 hold.

  Args:
    task: The task, which names and preprocesses the training data.

  Raises:
    ValueError, OSError, tf.errors.OpError: If the data cannot be read.
  """
  sample = sampling.sample(task.task_config, _MOST)
  images, labels, count = [], [], _MOST
  for batch, batch_labels in sample.batches(task):
    images += list(batch.numpy().astype(np.float32))
    if isinstance(batch_labels, tf.Tensor):
      labels += list(batch_labels.numpy())
    fit = _MAX_BYTES // (2 * images[0].size)
    count = min(_MOST, max(_LEAST, fit))
    if len(images) >= count:
      break
  listing = sample.listing()
  if 'records' in listing:
    listing['records'] = listing['records'][:count]
  whole = labels and np.issubdtype(np.asarray(labels).dtype, np.integer)
  return Images(
      np.stack(images[:count]),
      np.asarray(labels[:count]) if whole and np.ndim(labels) == 1 else None,
      {'source': TRAINING_DATA, **listing})


def save(task: base_task.Task, model_dir: str) -> None:
  """Keeps a few training images in a run directory, as float16.

  Args:
    task: The task, which names and preprocesses the training data.
    model_dir: The run directory.
  """
  drawn = draw(task)
  arrays = {'images': drawn.images.astype(np.float16),
            'listing': np.asarray(json.dumps(drawn.listing))}
  if drawn.labels is not None:
    arrays['labels'] = drawn.labels
  content = io.BytesIO()
  np.savez_compressed(content, **arrays)
  files.write_atomically(
      os.path.join(model_dir, FILE_NAME), content.getvalue())


def load(model_dir: str) -> Images | None:
  """Returns the images that a run directory keeps, None if it has none.

  Args:
    model_dir: The run directory.

  Raises:
    UsageError: If the file is damaged.
  """
  path = os.path.join(model_dir, FILE_NAME)
  if not tf.io.gfile.exists(path):
    return None
  try:
    with tf.io.gfile.GFile(path, 'rb') as f, np.load(
        io.BytesIO(f.read())) as arrays:
      images, listing = arrays['images'], json.loads(str(arrays['listing']))
      labels = arrays['labels'] if 'labels' in arrays else None
    wrong = _wrong(images, labels, listing)
  except Exception as e:  # zipfile, zlib and numpy raise what they want.
    wrong = str(e) or type(e).__name__
  if wrong:
    raise errors.UsageError(
        f'{path!r} is damaged: {wrong}. Put back a copy of it, or remove it to '
        'draw images from the training data instead')
  return Images(images.astype(np.float32), labels,
                {**listing, 'source': FILE_NAME})


def _wrong(images, labels, listing) -> str:
  """Returns what is wrong with the arrays of a file, '' if nothing is."""
  if images.ndim != 4 or not images.size or images.dtype != np.float16:
    return (f'images must be float16 [n, h, w, c], received {images.dtype} '
            f'{list(images.shape)}')
  if not np.isfinite(images).all():
    return 'images must be finite'
  if labels is not None and labels.shape != images.shape[:1]:
    return (f'labels must be {len(images)} numbers, received '
            f'{list(labels.shape)}')
  if not isinstance(listing, dict):
    return f'listing must be a mapping, received {type(listing).__name__}'
  return ''


def data_config(task: base_task.Task, split: str) -> inputs.DataConfig:
  """Returns the input of a split; without test data that of validation."""
  config = getattr(task.task_config, f'{split}_data', None)
  return config or task.task_config.validation_data


def num_examples(task: base_task.Task, split: str) -> int | None:
  """Returns how many images a split has, None if that is not known quickly."""
  params = data_config(task, split)
  if params.tfds_name or params.file_type != 'tfrecord':
    return None
  return records.count(inputs.files(params))


def labelled_images(
    task: base_task.Task, split: str) -> Iterator[tuple[np.ndarray, Any]]:
  """Returns one pass over a split, preprocessed for evaluation.

  The input is traced by the call; it is read when the first batch is asked for.

  Args:
    task: The task, which names and preprocesses the data.
    split: `train`, `validation` or `test`.

  Returns:
    Images [b, height, width, channels] and labels (of segmentation: a
    dictionary), batch by batch.
  """
  data = task.build_inputs(data_config(task, split).replace(
      is_training=False, drop_remainder=False))
  return data.as_numpy_iterator()
