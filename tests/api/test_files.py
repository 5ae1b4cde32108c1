"""From models in memory to verified files, their accuracy and latency."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import modelgarden_opt
from modelgarden_opt import errors
from modelgarden_opt.evaluation import census
from tests.api import test_fit_and_save as models

layers = tf_keras.layers
IMAGES, LABELS = models.IMAGES, models.LABELS


@pytest.fixture(scope='module')
def quantized():
  return modelgarden_opt.compress(
      models.two_branches(), quantization={}, calibration_data=IMAGES)


def test_a_quantized_model_becomes_a_verified_file(quantized, tmp_path):
  path = str(tmp_path / 'm.tflite')
  found = modelgarden_opt.export(
      quantized, path, representative_data=IMAGES, labels='abcd',
      io_dtype='int8')
  assert found['ranges'] == 'trained' and found['verified']
  assert not found['float_ops'] and found['num_delegate_partitions'] == 1
  assert found['agreement'] == 1.0 and found['num_verified'] == 64
  score = modelgarden_opt.evaluate(path, (IMAGES, LABELS), reference=quantized)
  assert score['format'] == 'int8' and score['agreement'] == 1.0
  timed = modelgarden_opt.benchmark(path, num_runs=5)['results'][0]
  assert timed['model'] == path and timed['median_ms'] > 0


@pytest.mark.parametrize('kind', ['float32', 'int8'])
def test_a_float_model_is_calibrated_by_any_data(kind, tmp_path):
  path = str(tmp_path / 'm.tflite')
  data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(16)
  found = modelgarden_opt.export(
      models.sequential(), path, kind, data if kind == 'int8' else None)
  assert found['ranges'] == {'int8': 'calibrated'}.get(kind)
  assert found['verified_on']['source'] == (
      'representative_data' if kind == 'int8' else 'noise')
  assert census.file_format(path) == kind


def test_the_names_of_the_interface_that_was_announced_work(tmp_path):
  found = modelgarden_opt.export(
      models.sequential(), str(tmp_path / 'm.tflite'), format='int8',
      representative=(image[np.newaxis] for image in IMAGES))
  assert found['ranges'] == 'calibrated'


def test_evaluation_takes_models_files_and_labels_of_any_form(
    quantized, tmp_path):
  saved = str(tmp_path / 'm.keras')
  modelgarden_opt.save(quantized, saved)
  forms = [(IMAGES, LABELS), (IMAGES, LABELS[:, np.newaxis]),
           (IMAGES, np.eye(4)[LABELS]),
           tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(24)]
  found = [modelgarden_opt.evaluate(model, data)['metrics']
           for model in (quantized, saved) for data in forms]
  expected = np.mean(np.argmax(quantized(IMAGES), -1) == LABELS)
  assert [f['top_1_accuracy'] for f in found] == pytest.approx(
      [expected] * len(found))


def _two_outputs():
  image = tf_keras.Input([16, 16, 3])
  return tf_keras.Model(
      image, [layers.Conv2D(2, 1)(image), layers.Conv2D(3, 1)(image)])


def _two_inputs():
  a, b = tf_keras.Input([4, 4, 3]), tf_keras.Input([4, 4, 3])
  return tf_keras.Model([a, b], layers.Add()([a, b]))


@pytest.mark.parametrize(('make', 'options', 'expected'), [
    (models.sequential, {}, 'representative_data: int8 of a float model'),
    (models.sequential, {'format': 'int4'}, "'int4' is not an export format"),
    (models.sequential, {'batch': 2}, "no such option 'batch'.*'batch_size'"),
    (models.sequential, {'format': 'float32', 'io_dtype': 'int4'},
     'io_dtype: must be one of'),
    (_two_outputs, {'format': 'float32'}, 'one output, received 2'),
    (_two_inputs, {'format': 'float32'}, 'expected one input, received 2'),
    (lambda: modelgarden_opt.compress(models.sequential(), quantization={}),
     {}, 'ranges were never measured'),
])
def test_what_cannot_be_exported_is_one_message_and_no_file(
    make, options, expected, tmp_path):
  with pytest.raises(errors.UsageError, match=expected):
    modelgarden_opt.export(make(), str(tmp_path / 'm.tflite'), **options)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('data', 'expected'), [
    (IMAGES, 'expected images and labels'),
    ((IMAGES, LABELS + 1), 'must lie in 0 to 3.*received 4'),
    ((IMAGES, LABELS[:9]), 'a label for each of the .* received 9'),
    ((IMAGES * np.inf, LABELS), 'not finite'),
    ([], 'holds no images')])
def test_data_that_cannot_be_scored_are_refused(quantized, data, expected):
  with pytest.raises(errors.UsageError, match=expected):
    modelgarden_opt.evaluate(quantized, data)


def test_what_is_no_path_is_refused(quantized):
  for call in (lambda: modelgarden_opt.benchmark(quantized),
               lambda: modelgarden_opt.benchmark([quantized]),
               lambda: modelgarden_opt.export(quantized, None),
               lambda: modelgarden_opt.save(quantized, None),
               lambda: modelgarden_opt.load_model(3)):
    with pytest.raises(errors.UsageError, match='paths?: expected a path'):
      call()


def test_files_that_are_not_there_are_refused(tmp_path):
  for call in (lambda path: modelgarden_opt.benchmark([path]),
               lambda path: modelgarden_opt.evaluate(path, (IMAGES, LABELS)),
               modelgarden_opt.load_model):
    with pytest.raises(errors.UsageError, match='there is no file|no such'):
      call(str(tmp_path / 'no.tflite'))


@pytest.mark.parametrize('file_format', ['float32', 'int8'])
def test_a_layer_that_is_called_twice_keeps_its_zeros(file_format, tmp_path):
  twice = layers.Conv2D(3, 3, padding='same', activation='relu')
  image = tf_keras.Input([16, 16, 3])
  x = layers.Flatten()(twice(twice(image)))
  blocks = {'pruning': {
      'pruning_schedule': 'ConstantSparsity', 'end_step': 0}}
  if file_format == 'int8':
    blocks |= {'quantization': {}, 'calibration_data': IMAGES}
  model = modelgarden_opt.compress(
      tf_keras.Model(image, layers.Dense(4)(x)), **blocks)
  found = modelgarden_opt.export(
      model, str(tmp_path / 'm.tflite'), file_format, IMAGES)
  assert found['sparsity'] == pytest.approx(0.5, abs=0.02)


def test_mobilenet_v2_of_keras_applications_becomes_a_file_of_integers(
    tmp_path):
  model = tf_keras.applications.MobileNetV2(
      [32, 32, 3], alpha=0.35, weights=None, classes=4,
      classifier_activation=None)
  images = np.random.default_rng(1).normal(size=(32, 32, 32, 3))
  small = modelgarden_opt.compress(
      model, quantization={}, calibration_data=images)
  small.compile('adam', tf_keras.losses.SparseCategoricalCrossentropy(True))
  small.fit(images, np.arange(32) % 4, verbose=0)
  path = str(tmp_path / 'm.tflite')
  found = modelgarden_opt.export(small, path, representative_data=images)
  assert not found['float_ops'] and found['num_delegate_partitions'] == 1
