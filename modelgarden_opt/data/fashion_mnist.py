"""Fashion-MNIST: 70,000 grey product photos of 28x28 pixels, ten classes.

Source: Xiao, Rasul & Vollgraf, "Fashion-MNIST: a novel image dataset for
benchmarking machine learning algorithms", arXiv:1708.07747, 2017. Its images
are read from the four original files.
"""

from collections.abc import Callable
import os

from modelgarden_opt import errors
from modelgarden_opt.data.importing import idx
from modelgarden_opt.data.importing import source as source_lib

# Where the Debian package puts the files.
DIRECTORY = '/usr/share/datasets/fashion-mnist'
# Images of the original training set that validate: 5,000 of 60,000.
_VALIDATION_FRACTION = 1 / 12

load = idx.load


def items(
    source_dir: str, split: Callable
) -> dict[str, list[source_lib.Item]]:
  """Returns the images of every split; the original test set is kept.

  Args:
    source_dir: Directory of the four files, '' for that of the Debian package.
    split: Takes items, their labels and a fraction; returns the items without
      that fraction, and the fraction.

  Raises:
    UsageError: If a file is missing or damaged.
  """
  directory = os.path.expanduser(source_dir or DIRECTORY)
  missing = idx.missing(idx.find(directory))
  if missing:
    raise errors.UsageError(
        f'fashion_mnist: {directory!r} has no {", ".join(missing)}; install '
        'them with `apt-get install dataset-fashion-mnist`, or name a '
        'directory that holds the four original files: source_dir of the '
        'input, --source_dir of `modelgarden-opt data build`')
  read = idx.read_directory(directory).items
  train, validation = split(
      *zip(*((item, item.label) for item in read if item.split == 'train')),
      _VALIDATION_FRACTION)
  return {'train': train, 'validation': validation,
          'test': [item for item in read if item.split == 'test']}
