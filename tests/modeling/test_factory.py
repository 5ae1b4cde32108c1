"""From a float model to a compressed one."""

import numpy as np
from official.core import task_factory
from official.modeling import tf_utils
from official.vision.modeling.layers import nn_blocks
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory
from tests import conftest

Quantization = quantization_cfg.Quantization
IMAGES = conftest.random_images([4, 32, 32, 3])


@pytest.fixture(scope='module')
def float_model(tiny_params):
  model = task_factory.get_task(tiny_params('mobilenet_v2').task).build_model()
  conftest.randomize_norms(model)
  return model


def test_pass_through_equals_the_float_model_bit_for_bit(float_model):
  model = factory.compress(float_model, Quantization())
  with calibration.quantizer_mode(model, calibration.Mode.PASS_THROUGH):
    np.testing.assert_array_equal(
        model(IMAGES, training=False), float_model(IMAGES, training=False))


def test_names_and_parts_stay(float_model):
  model = factory.compress(float_model, Quantization())
  assert [layer.name for layer in model.layers] == [
      layer.name for layer in float_model.layers]
  assert model.backbone is model.checkpoint_items['backbone']
  twins = {type(layer).__name__ for layer in model.backbone.layers}
  assert {'Conv2DBNBlockQuantized', 'InvertedBottleneckBlockQuantized'} <= twins


def test_without_a_block_the_model_is_the_float_one(float_model):
  assert factory.compress(float_model, None) is float_model


@pytest.mark.parametrize('name', ['relu', 'relu6', 'swish', 'sigmoid'])
def test_a_function_that_a_model_calls_directly_is_quantized(name):
  inputs = tf_keras.Input([32, 32, 3])
  x = tf_keras.layers.Conv2D(8, 3, use_bias=False)(inputs)
  x = tf_keras.layers.BatchNormalization()(x)
  floats = tf_keras.Model(inputs, tf_utils.get_activation(name)(x))
  conftest.randomize_norms(floats)
  model = factory.compress(floats, Quantization())
  assert type(model.layers[-1]).__name__ == 'ActivationQuantized'
  with calibration.quantizer_mode(model, calibration.Mode.PASS_THROUGH):
    np.testing.assert_array_equal(
        model(IMAGES, training=False), floats(IMAGES, training=False))
  calibration.calibrate(
      model, tf.data.Dataset.from_tensors((IMAGES, np.zeros(4))))
  assert conftest.sqnr_db(floats(IMAGES).numpy(),
                          model(IMAGES, training=False).numpy()) >= 25


def test_rules_reach_inside_blocks_by_path_and_type(float_model):
  rules = [
      {'path': 'backbone/inverted_bottleneck_block_1/*', 'enabled': False},
      {'layer_type': 'DepthwiseConv2D', 'num_bits_weight': 4},
  ]
  model = factory.compress(float_model, Quantization(
      rules=[quantization_cfg.QuantizationRule(**r) for r in rules]))
  blocks = [layer for layer in model.backbone.layers
            if 'InvertedBottleneck' in type(layer).__name__]
  assert not blocks[1]._conv1.chain and not blocks[1]._norm2.output_quantizer
  kernel_quantizer, = blocks[2]._conv1.chain
  assert kernel_quantizer.num_bits == 4
  assert next(iter(blocks[2]._conv0.chain)).num_bits == 8


def test_a_rule_that_matches_nothing_names_what_there_is(float_model):
  rule = quantization_cfg.QuantizationRule(layer_type='Conv3D', enabled=False)
  with pytest.raises(errors.UsageError,
                     match='Conv3D.*matches no layer.*Dense'):
    factory.compress(float_model, Quantization(rules=[rule]))


def test_an_error_inside_of_a_block_is_its_message_alone():
  inputs = tf_keras.Input([16, 16, 3])
  model = tf_keras.Model(inputs, nn_blocks.ResidualBlock(
      8, 1, use_projection=True, activation='selu')(inputs))
  with pytest.raises(errors.UsageError, match='selu') as e:
    factory.compress(model, Quantization())
  assert str(e.value).startswith('quantization: residual_block_0/')
  assert 'Exception encountered' not in str(e.value)
  assert 'Call arguments' not in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('depth', [0, 1, 2])
def test_words_of_keras_and_gin_around_a_message_are_dropped(depth):
  text = 'field: two\n\nlines.'
  for index in range(depth):
    what = f'layer "block_{index}" (type Block)'
    text = (f'Exception encountered when calling {what}.\n\n{text}\n\n'
            f'Call arguments received by {what}:\n  • inputs=x')
  for name in ('Trainer', 'create_trainer')[:depth]:
    text += f"\n  In call to configurable '{name}' (<class 'a.{name}'>)"
  assert errors.without_calls(text) == 'field: two\n\nlines.'


def test_a_layer_that_no_technique_knows_is_named():
  inputs = tf_keras.Input([8])
  model = tf_keras.Model(inputs, tf_keras.layers.LayerNormalization()(inputs))
  with pytest.raises(
      errors.UsageError,
      match=r'layer_normalization_0 \(LayerNormalization\)'):
    factory.compress(model, Quantization())


def test_calibration_measures_the_mean_of_the_batch_extremes():
  inputs = tf_keras.Input([4])
  dense = tf_keras.layers.Dense(3, use_bias=False)
  model = tf_keras.Model(inputs, dense(inputs))
  dense.kernel.assign(tf.ones([4, 3]))
  compressed = factory.compress(model, Quantization())
  batches = [np.full([2, 4], value, np.float32) for value in (1.0, -3.0)]
  calibration.calibrate(
      compressed, tf.data.Dataset.from_tensor_slices((batches, [0, 0])))
  leaf = compressed.layers[-1]
  np.testing.assert_allclose(leaf.input_quantizers[0].maximum, 0.5, rtol=1e-5)
  np.testing.assert_allclose(leaf.input_quantizers[0].minimum, -1.5, rtol=1e-5)
  np.testing.assert_allclose(leaf.output_quantizer.maximum, 2.0, rtol=1e-5)
  np.testing.assert_allclose(leaf.output_quantizer.minimum, -6.0, rtol=1e-5)


def test_input_and_head_are_quantized(float_model):
  model = factory.compress(float_model, Quantization())
  stem = model.backbone.layers[1]
  assert stem._conv0.input_quantizers
  head = model.layers[-1]
  assert head.output_quantizer and not next(iter(head.chain)).per_channel
