"""What a recipe has to know of a data set."""

import dataclasses
import os

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.configs import catalog
from modelgarden_opt.data import embedded

# Classes of these look different in a mirror.
_NOT_MIRRORED = ('digits', 'mnist', 'digits_scenes')


@dataclasses.dataclass(frozen=True)
class DataSet:
  """A data set.

  Attributes:
    task: `image_classification` or `semantic_segmentation`.
    num_classes: Number of classes.
    num_images: Number of images to train with.
    height: Most common height of its images in pixels.
    width: Width of these images.
    mirrored: Whether mirrored images are of the same class.
  """
  task: str
  num_classes: int
  num_images: int
  height: int
  width: int
  mirrored: bool = True


def describe(data: str) -> DataSet:
  """Returns what is known of a data set.

  Args:
    data: Name of an embedded data set, which is built if it is absent, or a
      directory that `data import` wrote.

  Raises:
    UsageError: If it is neither.
  """
  if data in catalog.DATA_SETS:
    known = catalog.DATA_SETS[data]
    number = embedded.num_examples(
        data, os.path.join(catalog.EMBEDDED_DIR, data), 'train')
    return DataSet(known.task, len(known.classes), number, known.side,
                   known.side, data not in _NOT_MIRRORED)
  found = files.read_json(os.path.join(
      os.path.expanduser(data), 'dataset.json'))
  if found is None:
    raise errors.UsageError(
        f'data: {data!r} is no directory that `modelgarden-opt data import` '
        'wrote (it has no dataset.json), and no embedded data set'
        f'{errors.nearest(data, catalog.DATA_SETS)}')
  height, width = found['images']['most_common_size']
  return DataSet(found['task'], found['num_classes'],
                 found['num_examples']['train'], height, width)
