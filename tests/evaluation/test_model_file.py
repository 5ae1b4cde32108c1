"""Ops and tensors of a file are read as they are in it."""

import pytest
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.evaluation import litert_loading
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.export import convert


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  layers = tf_keras.layers
  model = tf_keras.Sequential([
      layers.Conv2D(4, (3, 5), strides=(2, 1), activation='relu',
                    input_shape=[16, 16, 3]),
      layers.DepthwiseConv2D(3, dilation_rate=2), layers.UpSampling2D(
          2, interpolation='bilinear'),
      layers.GlobalAveragePooling2D(), layers.Dense(7)])
  path = tmp_path_factory.mktemp('model_file') / 'm.tflite'
  path.write_bytes(convert.convert(model, 'float32'))
  return str(path)


def test_ops_are_those_of_the_interpreter(path):
  found = litert_loading.ops(litert_loading.load(path, 1, delegates=False))
  assert [op.name for op in model_file.read(path).ops] == [
      op['op_name'] for op in found]


def test_properties_are_those_of_the_layers(path):
  ops = {op.name: op for op in model_file.read(path).ops}
  conv = ops['CONV_2D']
  assert (conv.kernel_height, conv.kernel_width, conv.stride) == (3, 5, 2)
  assert conv.activation and not ops['DEPTHWISE_CONV_2D'].activation
  assert conv.kernel_dtype == conv.operand_dtype == 'float32'
  assert not conv.per_channel and conv.batch == 1 and conv.rank == 4
  assert ops['RESIZE_BILINEAR'].enlargement == 2
  assert ops['RESIZE_BILINEAR'].result_size == 16
  assert ops['FULLY_CONNECTED'].kernel_height == 0
  assert 'dense' in ops['FULLY_CONNECTED'].where or (
      ops['FULLY_CONNECTED'].where == 'Identity')


def test_inputs_and_outputs_are_those_of_the_file(path):
  file = model_file.read(path)
  assert [t.shape for t in file.inputs] == [(1, 16, 16, 3)]
  assert [t.shape for t in file.outputs] == [(1, 7)]
  assert not file.inputs[0].constant and not file.inputs[0].dynamic


@pytest.mark.parametrize('content, message', [
    (b'', 'is not a TFLite model'), (b'PK', 'is not a TFLite model'),
    (b'some other file', 'is not a TFLite model')])
def test_what_is_no_file_is_told(tmp_path, content, message):
  path = tmp_path / 'm.tflite'
  path.write_bytes(content)
  with pytest.raises(errors.UsageError, match=message):
    model_file.read(str(path))
  with pytest.raises(errors.UsageError, match='there is no file'):
    model_file.read(str(tmp_path / 'n.tflite'))


@pytest.mark.parametrize('share', [0.01, 0.3, 0.6, 0.9])
def test_a_file_that_ends_early_is_told(path, tmp_path, share):
  with open(path, 'rb') as f:
    content = f.read()
  damaged = tmp_path / 'm.tflite'
  damaged.write_bytes(content[:max(16, int(share * len(content)))])
  with pytest.raises(errors.UsageError, match='is damaged'):
    model_file.read(str(damaged))
