"""Symmetric SAME becomes PAD and VALID, and nothing else changes."""

import numpy as np
import pytest
import tf_keras

from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.export import convert
from modelgarden_opt.export.lowering import flatbuffer
from modelgarden_opt.export.lowering import symmetric_padding
from tests import conftest

layers = tf_keras.layers


def _file(layer, size, **options):
  """Returns a file of one layer between two pointwise ones."""
  image = layers.Input([*size, 3])
  x = layers.Conv2D(4, 1, activation='relu', name='before')(image)
  model = tf_keras.Model(image, layers.Conv2D(5, 1, name='after')(layer(x)))
  return convert.convert(model, 'float32', **options)


def _read(content, path):
  path.write_bytes(content)
  return model_file.read(str(path)), litert_model.Model(str(path))


def _split(content, tmp_path):
  """Returns ops before and after, and whether both compute the same bits."""
  before, whole = _read(content, tmp_path / 'before.tflite')
  after, split = _read(flatbuffer.edit(content, symmetric_padding.split),
                       tmp_path / 'after.tflite')
  images = conftest.random_images([2, *before.inputs[0].shape[1:]]).numpy()
  return before, after, np.array_equal(whole(images), split(images))


@pytest.mark.parametrize('layer, size, pads', [
    (layers.Conv2D(6, 3, 2, 'same'), (33, 33), (1, 1)),
    (layers.DepthwiseConv2D(3, 2, 'same'), (17, 9), (1, 1)),
    (layers.DepthwiseConv2D(5, 2, 'same'), (33, 33), (2, 2)),
    (layers.DepthwiseConv2D((3, 5), 2, 'same'), (33, 33), (1, 2)),
    (layers.Conv2D(6, 3, 3, 'same'), (34, 34), (1, 1)),
    (layers.Conv2D(6, 3, 2, 'same'), (1, 1), (1, 1)),
])
def test_a_symmetric_one_is_split_and_computes_the_same_bits(
    layer, size, pads, tmp_path):
  _, after, equal = _split(_file(layer, size), tmp_path)
  assert equal
  pad, = (op for op in after.ops if op.name == 'PAD')
  assert pad.results[0].shape[1:3] == tuple(
      pixels + 2 * more for pixels, more in zip(size, pads))


@pytest.mark.parametrize('layer, size', [
    (layers.Conv2D(6, 3, 2, 'same'), (32, 32)),
    (layers.Conv2D(6, 3, 2, 'same'), (33, 32)),
    (layers.Conv2D(6, 3, 1, 'same'), (33, 33)),
    (layers.Conv2D(6, 3, 2, 'valid'), (33, 33)),
    (layers.Conv2D(6, 1, 2, 'same'), (33, 33)),
    (layers.Conv2D(6, 4, 2, 'same'), (32, 32)),
    (layers.DepthwiseConv2D(3, 1, 'same', dilation_rate=2), (33, 33)),
    (layers.MaxPooling2D(3, 2, 'same'), (33, 33)),
])
def test_others_stay(layer, size, tmp_path):
  before, after, equal = _split(_file(layer, size), tmp_path)
  assert equal and after.count() == before.count()


@pytest.mark.parametrize('batch_size', [None, 3])
def test_any_number_of_images_is_padded(batch_size, tmp_path):
  content = _file(
      layers.Conv2D(6, 3, 2, 'same'), (33, 33), batch_size=batch_size)
  _, after, equal = _split(content, tmp_path)
  assert equal and after.count()['PAD'] == 1


def test_explicit_padding_that_the_converter_made_same_of_is_restored(
    tmp_path):
  layer = tf_keras.Sequential(
      [layers.ZeroPadding2D(1), layers.Conv2D(6, 3, 2, 'valid')])
  before, after, equal = _split(_file(layer, (33, 33)), tmp_path)
  assert equal and 'PAD' not in before.count() and after.count()['PAD'] == 1


def test_convolutions_of_one_kernel_size_share_the_paddings(tmp_path):
  layer = tf_keras.Sequential([
      layers.Conv2D(6, 3, 2, 'same'), layers.DepthwiseConv2D(3, 2, 'same')])
  _, after, equal = _split(_file(layer, (33, 33)), tmp_path)
  first, second = (op for op in after.ops if op.name == 'PAD')
  assert equal and first.operands[1] is second.operands[1]
