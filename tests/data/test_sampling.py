"""What calibrates is drawn from all classes and read as evaluation reads."""

import os

import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from modelgarden_opt.data import class_names
from modelgarden_opt.data import embedded
from modelgarden_opt.data import representative
from modelgarden_opt.data import sampling
from modelgarden_opt.data import tfds_blocks
from tests.families import test_segmentation as families


def _label(serialized):
  example = tf.train.Example.FromString(serialized)
  return example.features.feature['image/class/label'].int64_list.value[0]


@pytest.fixture(scope='module', params=[1, 4])
def sorted_task(request, tiny_params, data_dir, tmp_path_factory):
  """A task on digits that are sorted by class, in one file or in four."""
  source = embedded.ensure('digits', data_dir)
  examples = sorted(
      (e for path in tf.io.gfile.glob(os.path.join(source, 'train-*'))
       for e in tf.data.TFRecordDataset(path).as_numpy_iterator()), key=_label)
  directory = tmp_path_factory.mktemp('sorted')
  size = -(-len(examples) // request.param)
  for index in range(request.param):
    with tf.io.TFRecordWriter(str(directory / f'{index}.tfrecord')) as writer:
      for example in examples[index * size:(index + 1) * size]:
        writer.write(example)
  config = tiny_params('mobilenet_v2_qat').task
  config.train_data.override({
      'embedded_name': '', 'input_path': str(directory / '*.tfrecord'),
      'decode_jpeg_only': False})
  return task_factory.get_task(config)


def test_calibration_before_training_sees_every_class(sorted_task):
  batches = list(sorted_task._training_batches(2))
  assert [len(labels) for _, labels in batches] == [32, 32]
  labels = np.concatenate([labels for _, labels in batches])
  assert set(labels) == set(range(10))


def test_calibration_of_a_float_model_sees_every_class(sorted_task):
  sample = sampling.sample(sorted_task.task_config, 64)
  labels = [_label(record.content) for record in sample.found]
  assert set(labels) == set(range(10))
  images = list(representative.calibration_images(sorted_task, 64))
  assert len(images) == 64 and images[0].shape == (1, 32, 32, 3)
  # Random order: a part of the sample is as good.
  assert len(set(labels[:20])) >= 7


def test_the_records_of_a_listing_are_the_sample(sorted_task):
  sample = sampling.sample(sorted_task.task_config, 5)
  listing = sample.listing()
  assert listing['seed'] == 7
  for record, (file, number) in zip(sample.found, listing['records']):
    assert listing['files'][file] == record.file and number == record.number


def test_images_are_those_of_evaluation(tiny_params):
  """Neither augmented nor mixed, and with evaluation's own preprocessing."""
  params = tiny_params('mobilenet_v2', {'task': {
      'train_data': {
          'aug_rand_hflip': True, 'aug_crop': True, 'dtype': 'bfloat16',
          'random_erasing': {'probability': 1.0},
          'random_affine': {'translate': 0.3},
          'mixup_and_cutmix': {'mixup_alpha': 1.0, 'prob': 1.0}},
      'validation_data': {'center_crop_fraction': 0.5}}})
  task = task_factory.get_task(params.task)
  images = np.concatenate(list(representative.calibration_images(task, 2000)))
  expected = np.concatenate([batch for batch, _ in task.build_inputs(
      params.task.validation_data.replace(
          embedded_split='train')).as_numpy_iterator()])
  assert images.dtype == np.float32 and len(images) == len(expected) == 1257
  order = lambda x: x[np.lexsort(x.reshape(len(x), -1).T)]  # noqa: E731
  np.testing.assert_array_equal(order(images), order(expected))


def test_segmentation_is_sampled_too(data_dir):
  task = families.make_task(
      f'{families.MOBILENET}_qat', data_dir, families.OPTIONS['dilated'])
  kept = representative.draw(task)
  assert kept.images.shape[1:] == (64, 64, 3) and kept.labels is None
  assert len(kept.images) == len(kept.listing['records']) == 64


def test_classes_of_embedded_data_have_names(tiny_params, data_dir):
  config = tiny_params('mobilenet_v2').task
  assert class_names.of(config) == tuple('0123456789')
  config.model.num_classes = 11  # Not the classes that the data have.
  assert class_names.of(config) == ()
  scenes = families.make_task(
      f'{families.MOBILENET}_qat', data_dir, families.OPTIONS['dilated'])
  assert class_names.of(scenes.task_config)[:2] == ('photograph', '0')


class _Sorted(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """CIFAR-10 with 200 blank images, sorted by class."""
  name = 'cifar10'
  VERSION = tfds.core.Version('3.0.2')
  # Nothing is downloaded, so there are no checksums to look for.
  _checksums_path = None
  url_infos = {}

  def _info(self):
    return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict({
            'id': tfds.features.Text(),
            'image': tfds.features.Image(shape=(32, 32, 3)),
            'label': tfds.features.ClassLabel(num_classes=10)}),
        disable_shuffling=True)

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for number in range(200):
      yield number, {'id': str(number), 'label': number // 20,
                     'image': np.full([32, 32, 3], number, np.uint8)}


@pytest.fixture(scope='module')
def tfds_dir(tmp_path_factory):
  directory = str(tmp_path_factory.mktemp('tfds'))
  _Sorted(data_dir=directory).download_and_prepare()
  return directory


def test_tfds_records_come_from_all_over_the_split(tiny_params, tfds_dir):
  config = tiny_params('mobilenet_v2', {'task': {'train_data': {
      'embedded_name': '', 'input_path': '', 'tfds_name': 'cifar10',
      'tfds_split': 'train[10%:]', 'tfds_data_dir': tfds_dir}}}).task
  task = task_factory.get_task(config)
  sample = sampling.sample(config, 36)
  labels = np.concatenate([y for _, y in sample.batches(task)])
  assert len(labels) == 36 and set(labels) == set(range(1, 10))
  assert sample.listing() == sampling.sample(config, 36).listing()
  assert len(representative.draw(task).images) == 64
  assert class_names.of(config) == tuple('0123456789')


def test_blocks_lie_in_the_split_and_number_as_many_as_asked_for(tfds_dir):
  builder = tfds.builder('cifar10', data_dir=tfds_dir)
  for split, count in (('train', 100), ('train[:50]+train[150:]', 30),
                       ('train[:7]', 20)):
    chosen = tfds_blocks.choose('cifar10', tfds_dir, split, count, 0)
    ids = [int(i) for i in builder.as_dataset(chosen).map(
        lambda x: x['id']).as_numpy_iterator()]
    allowed = [int(i) for i in builder.as_dataset(split).map(
        lambda x: x['id']).as_numpy_iterator()]
    assert set(ids) <= set(allowed) and len(set(ids)) == len(ids)
    assert min(count, len(allowed)) <= len(ids) <= count + 64
