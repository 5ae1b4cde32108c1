"""Fashion-MNIST: 70,000 grey product photos of 28x28 pixels, ten classes.

Source: Xiao, Rasul & Vollgraf, "Fashion-MNIST: a novel image dataset for
benchmarking machine learning algorithms", arXiv:1708.07747, 2017. Its images
are read from the four original files.
"""

import numpy as np

from modelgarden_opt import errors
from modelgarden_opt.data.importing import idx

# Where the Debian package puts the files.
DIRECTORY = '/usr/share/datasets/fashion-mnist'
CLASSES = ('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal',
           'Shirt', 'Sneaker', 'Bag', 'Ankle boot')
# Images of the original training set that validate: 5,000 of 60,000.
VALIDATION_FRACTION = 1 / 12


def read(source_dir: str = '') -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Returns images [n, 28, 28] and labels [n] of `train` and `test`.

  Args:
    source_dir: Directory of the four files, '' for that of the Debian package.

  Raises:
    UsageError: If a file is missing or damaged.
  """
  directory = source_dir or DIRECTORY
  found = idx.find(directory)
  missing = idx.missing(found)
  if missing:
    raise errors.UsageError(
        f'fashion_mnist: {directory!r} has no {", ".join(missing)}; install '
        'them with `apt-get install dataset-fashion-mnist`, or name a '
        'directory that holds the four original files: source_dir of the '
        'input, --source_dir of `modelgarden-opt data build`')
  return {split: idx.images_and_labels(paths) for split, paths in found.items()}
