"""Files of one tiny network in every form that a tool may meet."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import modelgarden_opt
from modelgarden_opt.export import convert
from modelgarden_opt.targets import devices
from modelgarden_opt.targets import measuring

_FORMATS = ('float32', 'float16', 'dynamic_int8', 'int8', 'int16x8')


def _representative():
  rng = np.random.default_rng(0)
  return iter([rng.normal(size=[1, 32, 32, 3]).astype(np.float32)
               for _ in range(8)])


def _network(activation='relu6', filters=32):
  layers = tf_keras.layers
  image = layers.Input([32, 32, 3])
  x = layers.Conv2D(filters, 3, strides=2, padding='same')(image)
  x = layers.ReLU(6)(layers.BatchNormalization()(x))
  x = layers.DepthwiseConv2D(3, padding='same')(x)
  x = layers.Activation(activation)(layers.BatchNormalization()(x))
  x = layers.Conv2D(64, 1)(x)
  x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
  return tf_keras.Model(image, layers.Dense(10)(x))


def _labels():
  """A segmentation that ends with labels, enlarged 16 times."""
  layers = tf_keras.layers
  x = image = layers.Input([64, 64, 3])
  for _ in range(4):
    x = layers.Conv2D(8, 3, strides=2, padding='same', activation='relu6')(x)
  x = tf.image.resize(layers.Conv2D(4, 1)(x), [64, 64])
  return tf_keras.Model(image, tf.argmax(x, -1, output_type=tf.int32))


def _integer(model, output=tf.int8):
  """The converter's own int8 file, with an open batch size."""
  converter = tf.lite.TFLiteConverter.from_keras_model(model)
  converter.optimizations = [tf.lite.Optimize.DEFAULT]
  shape = [1, *model.input_shape[1:]]
  converter.representative_dataset = lambda: iter(
      [[np.random.default_rng(k).normal(size=shape).astype(np.float32)]
       for k in range(4)])
  converter.target_spec.supported_ops = [
      tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
  converter.inference_input_type = tf.int8
  converter.inference_output_type = output
  return converter.convert()


def _hard_swish(x):
  return x * tf.nn.relu6(x + 3) / 6.


def _make(directory):
  model = _network()
  contents = {name: convert.convert(model, name, _representative)
              for name in _FORMATS}
  for name, batch_size in (('int8_io', 1), ('open_batch', None),
                           ('four_images', 4)):
    contents[name] = convert.convert(
        model, 'int8', _representative, io_dtype='int8', batch_size=batch_size)
  twin = modelgarden_opt.compress(model, quantization={
      'change_num_bits': True, 'num_bits_weight': 4, 'low_bit': 'all'})
  modelgarden_opt.calibrate(twin, list(_representative()))
  for runtime in ('xnnpack', 'reference'):
    contents[f'int4_{runtime}'] = convert.convert(
        twin, 'int8', io_dtype='int8', runtime=runtime)
  contents['hard_swish'] = _integer(_network(_hard_swish))
  contents['labels'] = _integer(_labels(), tf.float32)
  for layer in model.layers:
    if layer.weights and layer.weights[0].shape.rank == 4:
      kernel = layer.weights[0]
      small = np.abs(kernel) < np.quantile(np.abs(kernel), 0.8)
      kernel.assign(np.where(small, 0.0, kernel))
  contents['zeros'] = convert.convert(
      model, 'int8', _representative, io_dtype='int8')
  contents['sparse'] = convert.convert(model, 'float32', sparse=True)
  for name, content in contents.items():
    with open(os.path.join(directory, f'{name}.tflite'), 'wb') as f:
      f.write(content)


@pytest.fixture(scope='session')
def tiny_file(made_once):
  """Returns `get(name)`: the path of a file, of those that `_make` writes."""
  directory = made_once('target_files', _make)
  return lambda name: os.path.join(directory, f'{name}.tflite')


@pytest.fixture
def measure():
  """Returns `measure(path, device, **options)`: the record of a file."""

  def run(path, device, **options):
    record, = measuring.measure(
        [path], [device], devices.Options(**options))['results']
    return record

  return run


@pytest.fixture
def emulator():
  """Skips a test where instructions cannot be counted."""
  for program in ('qemu-x86_64', 'gcc'):
    if not shutil.which(program):
      pytest.skip(f'{program} is not installed: apt-get install qemu-user gcc')
