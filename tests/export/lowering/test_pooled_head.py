"""Convolutions after the last mean are dense layers; others stay."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt.evaluation import inspection
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.export import convert
from modelgarden_opt.export.lowering import flatbuffer
from modelgarden_opt.export.lowering import pooled_head
from tests import conftest

layers = tf_keras.layers


def _with_zeros(model):
  for layer in model.layers:
    if layer.weights:
      kernel = layer.weights[0]
      small = np.abs(kernel) < np.quantile(np.abs(kernel), 0.8)
      kernel.assign(np.where(small, 0.0, kernel))
  return model


def _network(head):
  """A stem, squeeze and excitation, the mean over space, and a head."""
  image = layers.Input([16, 16, 3])
  x = layers.Conv2D(24, 3, 2, activation='relu')(image)
  gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
  gate = layers.Conv2D(8, 1, activation='relu')(gate)
  gate = layers.Conv2D(24, 1, activation='sigmoid')(gate)
  x = layers.Multiply()([x, gate])
  x = layers.GlobalAveragePooling2D(keepdims=True)(x)
  return _with_zeros(tf_keras.Model(image, head(x)))


def _long(x):
  x = layers.Conv2D(32, 1, activation='relu6')(x)
  x = layers.Conv2D(10, 1, use_bias=False)(tf.nn.tanh(x))
  return layers.Flatten()(x)


_HEADS = {
    'two': _long,
    'an output of four dimensions': lambda x: layers.Conv2D(10, 1)(x),
    'strided': lambda x: layers.Conv2D(10, 1, 2)(x),
}


@pytest.mark.parametrize('sparse', [False, True])
@pytest.mark.parametrize('file_format', ['float32', 'float16'])
@pytest.mark.parametrize('name', _HEADS)
def test_heads_are_dense_layers_and_compute_the_same_bits(
    name, file_format, sparse, tmp_path):
  model = _network(_HEADS[name])
  content = convert.convert(model, file_format)
  before, after = tmp_path / 'before.tflite', tmp_path / 'after.tflite'
  before.write_bytes(content)
  after.write_bytes(
      convert.convert(model, file_format, sparse=True) if sparse
      else flatbuffer.edit(content, pooled_head.lower))
  images = conftest.random_images([4, 16, 16, 3]).numpy()
  np.testing.assert_array_equal(litert_model.Model(str(before))(images),
                                litert_model.Model(str(after))(images))
  convolutions = [op for op in model_file.read(str(after)).ops
                  if op.name == 'CONV_2D']
  assert [op.results[0].shape[3] for op in convolutions] == [24, 8, 24]
  dense = [k for k in inspection.kernels(str(after))
           if k.op == 'FULLY_CONNECTED']
  assert all(k.stored_sparse == sparse for k in dense)
  expected = [k for k in inspection.kernels(str(before))][3:]
  assert len(dense) == len(expected)
  for kernel, conv in zip(dense, expected):
    np.testing.assert_array_equal(kernel.values, conv.values[:, 0, 0])


def test_a_kernel_that_others_read_stays(tmp_path):
  shared = layers.Conv2D(24, 1)
  image = layers.Input([9, 9, 24])
  x = layers.GlobalAveragePooling2D(keepdims=True)(shared(image))
  model = tf_keras.Model(image, shared(x))
  content = convert.convert(model, 'float32')
  path = tmp_path / 'm.tflite'
  path.write_bytes(flatbuffer.edit(content, pooled_head.lower))
  assert model_file.read(str(path)).count()['CONV_2D'] == 2
  litert_model.Model(str(path))(np.zeros([1, 9, 9, 24], np.float32))
