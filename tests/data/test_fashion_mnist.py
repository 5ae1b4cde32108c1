"""Fashion-MNIST: the original files, three splits, and where they come from."""

import collections
import glob
import json

import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf

from modelgarden_opt.cli import main
from modelgarden_opt.data import class_names
from modelgarden_opt.data import embedded
from modelgarden_opt.data import fashion_mnist
from modelgarden_opt.data.importing import idx
from tests.data.importing import sources

_PRESENT = not idx.missing(idx.find(fashion_mnist.DIRECTORY))


def _records(directory, split):
  """Returns (image [h, w], label) of every record of a split."""
  for path in sorted(glob.glob(f'{directory}/{split}-*')):
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
      feature = tf.train.Example.FromString(record).features.feature
      image = tf.io.decode_image(feature['image/encoded'].bytes_list.value[0])
      yield image.numpy()[..., 0], (
          feature['image/class/label'].int64_list.value[0])


def test_the_test_set_is_kept_and_the_training_set_is_split(tmp_path, capsys):
  arrays = sources.write_idx(tmp_path / 'source')
  output = tmp_path / 'built'
  assert main.main(['data', 'build', 'fashion_mnist',
                    f'--source_dir={tmp_path / "source"}',
                    f'--output_dir={output}']) == 0
  assert '110 train, 10 validation, 20 test' in capsys.readouterr().out
  found = {split: list(_records(output, split)) for split in embedded.SPLITS}
  # Stratified: every class validates.
  assert sorted(label for _, label in found['validation']) == list(range(10))
  pixels = collections.Counter(
      (image.tobytes(), label)
      for split in ('train', 'validation') for image, label in found[split])
  assert pixels == collections.Counter(
      (image.tobytes(), label) for image, label in zip(*arrays['train']))
  assert {image.tobytes() for image, _ in found['test']} == {
      image.tobytes() for image in arrays['test'][0]}
  assert json.loads((output / 'dataset.json').read_text())['num_classes'] == 10


def test_it_is_built_where_a_configuration_names_it(tmp_path, tiny_params):
  sources.write_idx(tmp_path / 'source')
  data = {'embedded_name': 'fashion_mnist', 'embedded_dir': str(tmp_path),
          'source_dir': str(tmp_path / 'source')}
  config = tiny_params('mobilenet_v2', {'task': {
      'train_data': data, 'validation_data': data}}).task
  images, labels = next(iter(task_factory.get_task(config).build_inputs(
      config.train_data)))
  assert images.shape == (32, 32, 32, 3) and len(labels) == 32
  # Grey images have three equal channels, before they are normalized.
  pixels = images * [58.395, 57.12, 57.375] + [123.675, 116.28, 103.53]
  np.testing.assert_allclose(pixels[..., 0], pixels[..., 2], atol=0.01)
  assert class_names.of(config)[8] == 'Bag'


def test_without_the_files_one_message_says_both_ways(tmp_path, capsys):
  empty = tmp_path / 'empty'
  empty.mkdir()
  assert main.main(['data', 'build', 'fashion_mnist', f'--source_dir={empty}',
                    f'--output_dir={tmp_path / "built"}']) == 2
  message = capsys.readouterr().err
  assert 'apt-get install dataset-fashion-mnist' in message
  assert 'source_dir' in message and repr(str(empty)) in message
  assert 'train-images-idx3-ubyte[.gz]' in message
  assert [*tmp_path.iterdir()] == [empty]


@pytest.mark.parametrize('arguments, found', [
    ([], 'received 0'), (['digits', '--name=mnist'], 'received 2'),
    (['fashon_mnist'], "did you mean 'fashion_mnist'")])
def test_the_name_is_checked(arguments, found, capsys, tmp_path):
  assert main.main(
      ['data', 'build', *arguments, f'--output_dir={tmp_path / "x"}']) == 2
  assert found in capsys.readouterr().err
  assert not (tmp_path / 'x').exists()


@pytest.mark.skipif(not _PRESENT, reason='dataset-fashion-mnist is not here')
def test_the_original_files_hold_the_same_number_of_every_class():
  for split, paths in idx.find(fashion_mnist.DIRECTORY).items():
    images, labels = idx.images_and_labels(paths)
    count = {'train': 6000, 'test': 1000}[split]
    assert images.shape == (10 * count, 28, 28)
    assert np.bincount(labels).tolist() == [count] * 10


@pytest.mark.slow
@pytest.mark.skipif(not _PRESENT, reason='dataset-fashion-mnist is not here')
def test_the_splits_of_the_original_files_are_of_equal_classes(tmp_path):
  assert embedded.build('fashion_mnist', str(tmp_path / 'built')) == {
      'train': 55_000, 'validation': 5_000, 'test': 10_000}
  labels = [label for _, label in _records(tmp_path / 'built', 'validation')]
  assert np.bincount(labels).tolist() == [500] * 10
