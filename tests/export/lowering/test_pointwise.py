"""Kernels of 4 bits reach the file, and pointwise ones stay in XNNPACK."""

import numpy as np
from official.modeling import activations as official
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.configs import quantization
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.export import formats
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory
from tests import conftest

layers = tf_keras.layers
IMAGES = conftest.random_images([16, 16, 16, 3])
# 3x3 pixels; then pointwise, with stride 2 and linear; then the head.
_FULL, *_LOW = 'conv2d_0', 'conv2d_1', 'conv2d_2', 'conv2d_3', 'dense_0'


@pytest.fixture(scope='module')
def model():
  """A quantized model; its pointwise and its dense kernels have 4 bits.

  One pointwise kernel has an odd number of input channels, one reads with
  stride 2.
  """
  inputs = tf_keras.Input([16, 16, 3])
  x = layers.Conv2D(7, 3, padding='same', activation='relu6')(inputs)
  x = layers.Activation(official.hard_swish)(layers.Conv2D(12, 1)(x))
  x = layers.DepthwiseConv2D(3, padding='same', activation='relu6')(x)
  x = layers.Conv2D(16, 1, strides=2, activation='relu6')(x)
  x = layers.Conv2D(8, 1)(x)
  x = layers.GlobalAveragePooling2D()(x)
  rules = [quantization.QuantizationRule(path=name, num_bits_weight=4)
           for name in _LOW]
  made = factory.compress(
      tf_keras.Model(inputs, layers.Dense(10)(x)),
      quantization.Quantization(rules=rules))
  calibration.calibrate(made, tf.data.Dataset.from_tensors((IMAGES, 0)))
  return made


@pytest.fixture(scope='module')
def files(model, tmp_path_factory):
  """Paths of the file by runtime."""
  directory = tmp_path_factory.mktemp('files')
  paths = {}
  for runtime in formats.RUNTIMES:
    paths[runtime] = str(directory / f'{runtime}.tflite')
    with open(paths[runtime], 'wb') as f:
      f.write(convert.convert(model, 'int8', runtime=runtime))
  return paths


def _steps(a, b):
  """Returns the differences of two outputs in steps of the int8 output."""
  return np.abs(a - b) / ((np.max(a) - np.min(a)) / 255)


def test_kernels_hold_the_integers_of_the_quantizers(model, files):
  by_shape = {}
  for path in files.values():
    for kernel in inspection.kernels(path):
      by_shape.setdefault(kernel.values.size, []).append(kernel)
  rewired = [layer for layer in internals.layers_of(model)
             if isinstance(layer, leaves.Rewired) and layer.path in (
                 _FULL, *_LOW)]
  assert len(rewired) == 5
  for layer in rewired:
    quantized = layer.chain(layer.kernel_variable, training=False).numpy()
    for kernel in by_shape[quantized.size]:
      assert kernel.dtype == (
          'int4' if layer.path in _LOW else 'int8')
      # One scale for every output channel.
      values = np.moveaxis(quantized, -1, 0).reshape(quantized.shape[-1], -1)
      stored = kernel.values.reshape(values.shape).astype(float)
      scales = np.sum(values * stored, 1) / np.sum(stored * stored, 1)
      np.testing.assert_allclose(
          stored * scales[:, None], values, atol=1e-4 * np.ptp(values))


def test_pointwise_kernels_are_fully_connected_for_xnnpack_only(files):
  found = {name: census.take(path) for name, path in files.items()}
  assert found['reference'].ops['CONV_2D'] == 4
  assert found['reference'].ops['FULLY_CONNECTED'] == 1
  assert found['xnnpack'].ops['CONV_2D'] == 2  # 3x3 pixels, and stride 2.
  assert found['xnnpack'].ops['FULLY_CONNECTED'] == 3
  assert found['xnnpack'].num_undelegated_ops < (
      found['reference'].num_undelegated_ops)


def test_constants_of_hard_swish_are_integers_too(files):
  for path in files.values():
    found = census.take(path)
    assert found.ops['ADD'] and not found.float_ops


def test_both_files_compute_what_keras_computes(model, files):
  with calibration.quantizer_mode(model, calibration.Mode.EXPORT):
    expected = model(IMAGES, training=False).numpy()
  outputs = {name: litert_model.Model(path)(IMAGES)
             for name, path in files.items()}
  for actual in outputs.values():
    assert np.mean(_steps(expected, actual)) < 0.5
    assert np.max(_steps(expected, actual)) < 3
  # The builtin kernels round otherwise: by one step at most.
  assert np.max(_steps(*outputs.values())) < 1.1


@pytest.mark.parametrize('bits', [2, 3, 5, 6, 7])
def test_widths_that_no_runtime_reads_are_refused(bits):
  inputs = tf_keras.Input([8, 8, 3])
  made = factory.compress(
      tf_keras.Model(inputs, layers.Conv2D(4, 1)(inputs)),
      quantization.Quantization(change_num_bits=True, num_bits_weight=bits))
  with pytest.raises(errors.UsageError, match=rf'conv2d_0 \({bits} bits\)'):
    convert.convert(made, 'int8')


def test_float_formats_of_low_bits_are_not_changed(model):
  content = convert.convert(model, 'float32')
  assert b'INT4' not in content and len(content) > 4000
