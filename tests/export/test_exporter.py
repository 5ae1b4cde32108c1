"""The exported file computes what the Keras model computes."""

import os
import shutil

import numpy as np
from official.vision.modeling.backbones import mobilenet
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.export import exporter
from modelgarden_opt.export import formats
from modelgarden_opt.export import sixteen_bits
from modelgarden_opt.export import verification
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory
from tests import conftest


@pytest.mark.parametrize('name', ['float', 'qat'])
@pytest.mark.parametrize('form', formats.FORMATS)
def test_every_format_agrees_with_keras(exported, name, form):
  found = exported(name, form)
  assert os.path.getsize(found['model']) == found['size_bytes']
  assert census.file_format(found['model']) == form
  assert found['agreement'] >= (1.0 if form in ('float32', 'float16') else 0.9)
  if form == 'float32':
    assert found['max_difference'] < 1e-3


@pytest.mark.parametrize('name', ['float', 'qat'])
def test_int8_files_hold_integers_only_in_one_partition(exported, name):
  found = exported(name, 'int8')
  assert not found['float_ops']
  assert found['num_delegate_partitions'] == 1
  assert found['num_undelegated_ops'] == 0
  assert found['size_bytes'] < exported(name, 'float32')['size_bytes']


def test_trained_ranges_are_those_of_the_file(exported, qat_run):
  from modelgarden_opt.tasks import run_directory
  model = run_directory.load(qat_run).model
  quantizer = model.layers[-1].output_quantizer
  expected = float(quantizer.maximum - quantizer.minimum) / 255
  step = litert_model.Model(exported('qat', 'int8')['model']).output_scale
  assert step == pytest.approx(expected, rel=1e-4)


def test_accuracy_of_the_file_is_that_of_keras(exported, qat_run):
  keras, file = evaluate.evaluate(
      qat_run, [exported('qat', 'int8')['model']])
  assert keras['num_examples'] == file['num_examples'] == 360
  assert file['format'] == 'int8'
  assert abs(keras['metrics']['top_1_accuracy'] -
             file['metrics']['top_1_accuracy']) <= 0.03
  assert file['agreement'] >= 0.95


@pytest.mark.parametrize('io_dtype', ['int8', 'uint8'])
def test_integer_input_and_output(exported, qat_run, tmp_path, io_dtype):
  path = str(tmp_path / 'm.tflite')
  exporter.export(qat_run, 'int8', path, io_dtype=io_dtype)
  images = conftest.random_images([4, 32, 32, 3]).numpy()
  integer, floats = litert_model.Model(path), litert_model.Model(
      exported('qat', 'int8')['model'])
  np.testing.assert_allclose(
      integer(images), floats(images), atol=1.01 * floats.output_scale)


def test_export_needs_the_run_directory_only(
    tiny_params, float_run, tmp_path):
  """The float checkpoint that training started from may be gone."""
  from modelgarden_opt.training import experiment
  start, model_dir = tmp_path / 'start', tmp_path / 'qat'
  shutil.copytree(float_run, start)
  experiment.run_experiment(tiny_params('mobilenet_v2_qat', {
      'task': {'quantization': {
          'pretrained_original_checkpoint': str(start),
          'calibration_steps': 1}},
      'trainer': {'train_steps': 2}}), 'train', str(model_dir))
  shutil.rmtree(start)
  moved = tmp_path / 'moved'
  model_dir.rename(moved)
  found = exporter.export(str(moved), 'int8', str(tmp_path / 'm.tflite'))
  assert found['num_verified'] > 0


def test_wrong_requests_are_told_and_leave_nothing(float_run, tmp_path):
  path = tmp_path / 'out' / 'm.tflite'
  for match, args in (
      ("did you mean 'int8'", (float_run, 'int_8')),
      ('needs --format=int8', (float_run, 'float32', {'io_dtype': 'int8'})),
      ('must be >= 1', (float_run, 'int8', {'calibration_images': 0})),
      ('is not a run directory', (str(tmp_path), 'float32'))):
    run, form, *options = args
    with pytest.raises(errors.UsageError, match=match):
      exporter.export(run, form, str(path), **dict(*options))
  assert not path.parent.exists() or not list(path.parent.iterdir())


def test_a_file_that_fails_verification_is_not_left(
    float_run, tmp_path, monkeypatch):
  def fail(*_):
    raise exporter.VerificationError('differs')
  monkeypatch.setattr(verification, 'verify', fail)
  with pytest.raises(exporter.VerificationError):
    exporter.export(float_run, 'float32', str(tmp_path / 'm.tflite'))
  assert not list(tmp_path.iterdir())


def test_dead_channels_survive_conversion(tmp_path):
  """A kernel of zeros keeps the bias of its batch norm."""
  inputs = tf_keras.Input([8, 8, 3])
  x = tf_keras.layers.Conv2D(4, 3, use_bias=False)(inputs)
  x = tf_keras.layers.BatchNormalization()(x)
  x = tf_keras.layers.Activation('relu')(x)
  model = tf_keras.Model(inputs, x)
  conftest.randomize_norms(model)
  convolution = model.layers[1]
  kernel = convolution.kernel.numpy()
  kernel[..., 1] = 0.0
  convolution.kernel.assign(kernel)
  model.layers[2].beta.assign([0.1, 2.5, 0.2, -0.3])
  images = conftest.random_images([16, 8, 8, 3])
  quantized = factory.compress(model, quantization_cfg.Quantization())
  calibration.calibrate(
      quantized, tf.data.Dataset.from_tensors((images, 0)))
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(quantized, 'int8'))
  file = litert_model.Model(str(path))
  np.testing.assert_allclose(
      file(images.numpy()), quantized(images, training=False),
      atol=1.01 * file.output_scale)


@pytest.mark.parametrize('size', [3, 100, 128, 300])
def test_average_pooling_of_any_size_is_exact(tmp_path, size):
  inputs = tf_keras.Input([size, 2 * size, 2])
  x = tf_keras.layers.Activation('relu')(inputs)
  model = tf_keras.Model(inputs, tf_keras.layers.AveragePooling2D(size)(x))
  quantized = factory.compress(model, quantization_cfg.Quantization())
  images = np.random.default_rng(0).uniform(
      size=[4, size, 2 * size, 2]).astype(np.float32)
  calibration.calibrate(quantized, tf.data.Dataset.from_tensors((images, 0)))
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(quantized, 'int8'))
  file = litert_model.Model(str(path))
  np.testing.assert_allclose(
      file(images), quantized(images, training=False),
      atol=1e-3 * file.output_scale)


def _calibrated(quantization, activation='relu6'):
  inputs = tf_keras.Input([16, 16, 3])
  x = mobilenet.Conv2DBNBlock(8, activation=activation)(inputs)
  x = mobilenet.Conv2DBNBlock(8, activation=activation)(x)
  model = tf_keras.Model(inputs, x)
  quantized = factory.compress(model, quantization)
  images = conftest.random_images([8, 16, 16, 3])
  calibration.calibrate(quantized, tf.data.Dataset.from_tensors((images, 0)))
  return quantized


def test_other_numbers_of_bits_are_refused_by_name():
  rule = quantization_cfg.QuantizationRule(
      path='conv2dbn_block_1/conv0', num_bits_weight=6)
  model = _calibrated(quantization_cfg.Quantization(rules=[rule]))
  with pytest.raises(errors.UsageError, match=r'_block_1/conv0 \(6 bits\)'):
    convert.convert(model, 'int8')


@pytest.mark.parametrize(('lowering', 'ops'), [
    ('decomposed', {'ADD', 'MUL'}), ('fused', {'HARD_SWISH'})])
def test_hard_swish_is_written_as_asked(tmp_path, lowering, ops):
  model = _calibrated(quantization_cfg.Quantization(), 'hard_swish')
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(model, 'int8', hard_swish=lowering))
  found = census.take(str(path))
  assert ops <= found.ops.keys() and not found.float_ops
  assert ('HARD_SWISH' in found.ops) == (lowering == 'fused')
  images = conftest.random_images([4, 16, 16, 3])
  difference = litert_model.Model(str(path))(images.numpy()) - model(images)
  file = litert_model.Model(str(path))
  assert np.max(np.abs(difference)) <= 3.1 * file.output_scale


def test_16_bit_files_of_a_quantized_run_have_the_trained_ranges(
    exported, qat_run):
  from modelgarden_opt.tasks import run_directory
  found = exported('qat', 'int16x8')
  assert found['ranges'] == 'trained' and found['calibrated_on'] is None
  quantizer = run_directory.load(qat_run).model.layers[-1].output_quantizer
  limit = max(-float(quantizer.minimum), float(quantizer.maximum))
  step = litert_model.Model(found['model']).output_scale
  assert step == pytest.approx(limit / 32767, rel=1e-4)
  # 16-bit activations leave the rounding of biases and sums.
  assert found['mean_difference_steps'] < 0.05
  assert exported('float', 'int16x8')['ranges'] == 'calibrated'


@pytest.mark.parametrize('activation', ['relu', 'relu6', 'tanh'])
def test_16_bits_over_trained_ranges_compute_what_keras_does(
    tmp_path, activation):
  model = _calibrated(quantization_cfg.Quantization(), activation)
  conftest.randomize_norms(model)
  images = conftest.random_images([8, 16, 16, 3])
  calibration.calibrate(model, tf.data.Dataset.from_tensors((images, 0)))
  converted = convert.convert_as(
      model, formats.Options(file_format='int16x8'))
  assert converted.ranges == 'trained' and not converted.reason
  path = tmp_path / 'm.tflite'
  path.write_bytes(converted.content)
  assert not census.take(str(path)).float_ops
  with sixteen_bits.activations(model):
    expected = model(images, training=False).numpy()
  difference = litert_model.Model(str(path))(images.numpy()) - expected
  assert np.max(np.abs(difference)) < 1e-3 * np.ptp(expected)
  assert model.layers[-1]._activation_layer._quantizers[
      'output'].num_bits == 8, 'the model is as it was'


def test_what_16_bits_cannot_have_is_calibrated_and_named(tmp_path):
  model = _calibrated(quantization_cfg.Quantization(), 'gelu')
  images = conftest.random_images([8, 16, 16, 3]).numpy()
  converted = convert.convert_as(
      model, formats.Options(file_format='int16x8'),
      lambda: (image[np.newaxis] for image in images))
  assert converted.ranges == 'calibrated'
  assert converted.reason == 'the converter refuses tfl.gelu of 16 bits'


def test_16_bits_without_a_relu_are_not_used():
  """The converter drops it after a convolution whose bias is zero."""
  model = _calibrated(quantization_cfg.Quantization(), 'relu')
  images = conftest.random_images([8, 16, 16, 3]).numpy()
  converted = convert.convert_as(
      model, formats.Options(file_format='int16x8'),
      lambda: (image[np.newaxis] for image in images))
  assert converted.ranges == 'calibrated'
  assert converted.reason == 'the converter drops 2 of 2 ReLUs'


def test_ops_without_a_16_bit_kernel_are_refused_by_name():
  model = _calibrated(quantization_cfg.Quantization(), 'hard_swish')
  images = conftest.random_images([2, 16, 16, 3]).numpy()
  with pytest.raises(errors.UsageError, match='no int16x8 kernel for HARD_SW'):
    convert.convert(model, 'int16x8',
                    representative=lambda: (i[np.newaxis] for i in images))


def test_dead_channels_survive_16_bits(tmp_path):
  """Their biases do not fit the 32 bits that the converter gives them."""
  model = _calibrated(quantization_cfg.Quantization())
  conftest.randomize_norms(model)
  block = model.layers[1]
  kernel = block._conv0.kernel.numpy()
  kernel[..., 1] = 0.0
  block._conv0.kernel.assign(kernel)
  block._norm0.beta.assign(np.full(8, 2.5, np.float32))
  block._norm0.gamma.assign(np.full(8, 1e-3, np.float32))
  images = conftest.random_images([8, 16, 16, 3])
  calibration.calibrate(model, tf.data.Dataset.from_tensors((images, 0)))
  converted = convert.convert_as(
      model, formats.Options(file_format='int16x8'),
      lambda: (image[np.newaxis] for image in images.numpy()))
  path = tmp_path / 'm.tflite'
  path.write_bytes(converted.content)
  with sixteen_bits.activations(model):
    expected = model(images, training=False).numpy()
  np.testing.assert_allclose(
      litert_model.Model(str(path))(images.numpy()), expected,
      atol=0.02 * np.ptp(expected))
  assert converted.ranges == 'calibrated'
  assert 'does not fit 32 bits' in converted.reason


def test_layers_left_in_float_convert_too(tmp_path, tiny_params):
  from official.core import task_factory
  model = task_factory.get_task(tiny_params('mobilenet_v2').task).build_model()
  conftest.randomize_norms(model)
  rule = quantization_cfg.QuantizationRule(
      path='backbone/inverted_bottleneck_block_2/*', enabled=False)
  quantized = factory.compress(
      model, quantization_cfg.Quantization(rules=[rule]))
  images = conftest.random_images([8, 32, 32, 3])
  calibration.calibrate(quantized, tf.data.Dataset.from_tensors((images, 0)))
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(quantized, 'int8'))
  found = census.take(str(path))
  assert found.float_ops == {
      'CONV_2D': 2, 'DEPTHWISE_CONV_2D': 1, 'ADD': 1}
  expected = quantized(images, training=False).numpy()
  actual = litert_model.Model(str(path))(images.numpy())
  assert conftest.sqnr_db(expected, actual) > 15
