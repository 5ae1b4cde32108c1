"""Single numbers that are joined with images have four dimensions."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.export import convert
from modelgarden_opt.export.lowering import flatbuffer
from modelgarden_opt.export.lowering import joined_constants
from tests import conftest

layers = tf_keras.layers
_VECTOR = np.linspace(0.1, 1.7, 6, dtype=np.float32)


def _unsigned(model):
  model.signatureDefs = []


def _expanded(function, file_format, tmp_path):
  """Returns a file after the pass, and whether it computes the same bits."""
  image = layers.Input([8, 8, 3])
  x = layers.Conv2D(6, 3, activation='relu')(image)
  model = tf_keras.Model(image, layers.Lambda(function)(x))
  content = convert.convert(model, file_format)
  before, after = tmp_path / 'before.tflite', tmp_path / 'after.tflite'
  before.write_bytes(content)
  after.write_bytes(flatbuffer.edit(
      content, _unsigned, joined_constants.expand))
  images = conftest.random_images([4, 8, 8, 3]).numpy()
  equal = np.array_equal(litert_model.Model(str(before))(images),
                         litert_model.Model(str(after))(images))
  return model_file.read(str(after)), equal


def _shapes(file, *names):
  return [t.shape for op in file.ops if op.name in names for t in op.operands]


_IMAGE = (1, 6, 6, 6)


@pytest.mark.parametrize('file_format', ['float32', 'float16'])
@pytest.mark.parametrize('value, shape', [
    (0.7, (1, 1, 1, 1)),
    (np.full([1], 0.7, np.float32), (1, 1, 1, 1)),
    (np.full([1, 1, 1, 1], 0.7, np.float32), (1, 1, 1, 1)),
    (_VECTOR, (6,)), (_VECTOR.reshape(1, 1, 1, 6), (1, 1, 1, 6))])
def test_single_numbers_have_four_dimensions_and_others_stay(
    value, shape, file_format, tmp_path):
  # Two readers of one constant, on either side.
  file, equal = _expanded(
      lambda x: tf.exp(x * value + value) + tf.exp(value * x),
      file_format, tmp_path)
  assert equal
  assert set(_shapes(file, 'ADD', 'MUL')) == {_IMAGE, shape}


@pytest.mark.parametrize('file_format', ['float32', 'float16'])
def test_who_reads_the_constant_without_an_image_keeps_it(
    file_format, tmp_path):
  def function(x):
    pooled = tf.reduce_mean(tf.exp(x) * 0.7, [1, 2])
    return tf.exp(pooled) * 0.7

  file, equal = _expanded(function, file_format, tmp_path)
  assert equal
  assert _shapes(file, 'MUL') == [_IMAGE, (1, 1, 1, 1), (1, 6), ()]


def test_what_stored_the_constant_in_float16_is_gone(tmp_path):
  file, _ = _expanded(lambda x: tf.exp(x * 0.7), 'float16', tmp_path)
  decoded = [op.operands[0].shape for op in file.ops
             if op.name == 'DEQUANTIZE']
  assert sorted(decoded) == [(6,), (6, 3, 3, 3)]  # Of the convolution.


def test_two_images_stay(tmp_path):
  file, equal = _expanded(
      lambda x: x * tf.reduce_mean(x, [1, 2], keepdims=True), 'float32',
      tmp_path)
  assert equal
  assert sorted(_shapes(file, 'MUL')) == [(1, 1, 1, 6), (1, 6, 6, 6)]
