"""Rules that leave layers in float: exactly these are float in the file."""

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import quantization
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory
from tests import conftest
from tests.families import test_families
from tests.families import test_segmentation

_INVERTED = 'backbone/inverted_bottleneck_block_'
_UNIVERSAL = 'backbone/universal_inverted_bottleneck_block_'
_RESIDUAL = 'backbone/residual_block_'
_DEEPLAB = 'deeplabv3_mobilenet_v2'
# Model (and option of segmentation), paths left in float, float ops left.
# A single op between two quantized tensors is one on integers all the same:
# the converter then quantizes its kernel.
CASES = [
    ('mobilenet_v2', [_INVERTED + '1/*'],
     {'CONV_2D': 2, 'DEPTHWISE_CONV_2D': 1}),
    ('mobilenet_v2', [_INVERTED + '1/*', _INVERTED + '2/*'],
     {'CONV_2D': 4, 'DEPTHWISE_CONV_2D': 2, 'ADD': 1}),
    ('mobilenet_v2', [_INVERTED + '1/conv1'], {}),
    ('mobilenet_v2', [_INVERTED + '1/norm2'], {'MUL': 1, 'ADD': 1}),
    ('mobilenet_v2', [_INVERTED + '1/conv2', _INVERTED + '1/norm2'], {}),
    ('mobilenet_v2', [_INVERTED + '1/depthwise_activation_layer'], {}),
    ('mobilenet_v2', ['*activation*'], {}),
    ('mobilenet_v2', ['backbone/conv2dbn_block_0/*'], {'CONV_2D': 1}),
    ('mobilenet_v2', ['backbone/conv2dbn_block_0/conv0'], {'CONV_2D': 1}),
    ('mobilenet_v2', ['global_average_pooling2d_0', 'dense_0'],
     {'FULLY_CONNECTED': 1}),
    ('mobilenet_v2', ['dense_0'], {'FULLY_CONNECTED': 1}),
    ('mobilenet_v3_small', [_INVERTED + '3/squeeze_excitation*'],
     {'CONV_2D': 2, 'MUL': 2}),
    ('mobilenet_v3_small', ['*/squeeze_excitation/gating_activation_fn'],
     {'ADD': 3, 'MUL': 3}),
    ('mobilenet_v4_conv_small', [_UNIVERSAL + '2/*'],
     {'CONV_2D': 2, 'DEPTHWISE_CONV_2D': 1}),
    ('mobilenet_v4_conv_small', [_UNIVERSAL + '2', _UNIVERSAL + '2/*'],
     {'CONV_2D': 2, 'DEPTHWISE_CONV_2D': 1, 'ADD': 1}),
    ('mobilenet_v4_conv_small', [_UNIVERSAL + '2/proj_norm'],
     {'MUL': 1, 'ADD': 1}),
    ('resnet18', [_RESIDUAL + '0/*'], {'CONV_2D': 3, 'ADD': 1}),
    ('resnet18', [_RESIDUAL + '1/*'], {'CONV_2D': 2, 'ADD': 1}),
    ('resnet18', [_RESIDUAL + '2/shortcut', _RESIDUAL + '2/norm0'], {}),
    # The first pooling is on integers, though what it reads is not.
    ('resnet18', ['backbone/conv2d_0', 'backbone/batch_normalization_0',
                  'backbone/activation_0'], {'CONV_2D': 1}),
    ('mnist_cnn', ['backbone/conv2d_0', 'backbone/activation_0'],
     {'CONV_2D': 1}),
    (f'{_DEEPLAB}:dilated', ['backbone/*'],
     {'CONV_2D': 6, 'DEPTHWISE_CONV_2D': 3, 'ADD': 2}),
    (f'{_DEEPLAB}:dilated', ['decoder/aspp/branch_1/*'], {}),
    (f'{_DEEPLAB}:dilated', ['decoder/*'],
     {'CONV_2D': 5, 'RESIZE_BILINEAR': 1, 'CONCATENATION': 1}),
    (f'{_DEEPLAB}:dilated', ['head/*'], {'CONV_2D': 2}),
    (f'{_DEEPLAB}:pyramid_2', ['decoder/*'],
     {'CONV_2D': 4, 'RESIZE_BILINEAR': 1, 'CONCATENATION': 1}),
    (f'{_DEEPLAB}:plus', ['decoder/*'],
     {'CONV_2D': 3, 'RESIZE_BILINEAR': 1, 'CONCATENATION': 1}),
    (f'{_DEEPLAB}:plus_sum', ['backbone/*'],
     {'CONV_2D': 6, 'DEPTHWISE_CONV_2D': 3, 'ADD': 2}),
]


@pytest.fixture(scope='module')
def float_models(data_dir):
  """Returns `make(name)` of float models, each built once."""
  made = {}

  def make(name):
    if name not in made:
      model, _, option = name.partition(':')
      task = (test_families.make_task(model, data_dir, short=True)
              if catalog.MODELS[model].task == 'image_classification' else
              test_segmentation.make_task(
                  model, data_dir, test_segmentation.OPTIONS[option]))
      made[name] = task.build_model()
      conftest.randomize_norms(made[name])
    return made[name]

  return make


@pytest.mark.parametrize(('name', 'paths', 'expected'), CASES)
def test_a_rule_leaves_exactly_its_layers_in_float(
    float_models, tmp_path, name, paths, expected):
  model = factory.compress(float_models(name), quantization.Quantization(
      rules=[quantization.QuantizationRule(path=path, enabled=False)
             for path in paths]))
  inputs = model.inputs or model.backbone.inputs
  images = conftest.random_images([4, *inputs[0].shape[1:]])
  calibration.calibrate(model, tf.data.Dataset.from_tensors((images, 0)))
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(model, 'int8'))
  found = census.take(str(path))
  assert dict(found.float_ops) == expected
  outputs = factory.logits(model(images, training=False)).numpy()
  file = litert_model.Model(str(path))
  step = file.output_scale or np.std(outputs) / 64
  assert np.mean(np.abs(file(images.numpy()) - outputs) / step) <= 1.5
