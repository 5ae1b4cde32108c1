"""A layer type of a user is one registered recipe."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import modelgarden_opt
from modelgarden_opt.compression import recipes
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import constraints
from tests import conftest

layers = tf_keras.layers
IMAGES = conftest.random_images([16, 8, 8, 4]).numpy()


@pytest.fixture(autouse=True)
def _registered_for_one_test():
  before = dict(recipes.RECIPES)
  yield
  for name in recipes.RECIPES.keys() - before.keys():
    recipes.unregister(name)


class Projected(layers.Layer):
  """A 1x1 convolution that nobody knows, by an attribute of another name."""

  def build(self, input_shape):
    self.matrix = self.add_weight(
        name='matrix', shape=[1, 1, input_shape[-1], 8],
        initializer='glorot_uniform')

  def call(self, inputs):
    return tf.nn.conv2d(inputs, self.matrix, 1, 'SAME')


def _model():
  image = tf_keras.Input([8, 8, 4])
  x = layers.Conv2D(4, 3, activation='relu')(image)
  return tf_keras.Model(image, layers.Dense(3)(
      layers.GlobalAveragePooling2D()(Projected()(x))))


def _register():
  @recipes.register('Projected', kernel='matrix', output={})
  def _(layer, inputs, q):
    return q.output(tf.nn.conv2d(inputs, layer.matrix, 1, 'SAME'))


def test_its_kernel_is_pruned_and_quantized_up_to_the_file(tmp_path):
  with pytest.raises(modelgarden_opt.UsageError, match='register a recipe'):
    modelgarden_opt.compress(_model(), quantization={})
  _register()
  floats = _model()
  model = modelgarden_opt.compress(
      floats, quantization={}, calibration_data=IMAGES, pruning={
          'pruning_schedule': 'ConstantSparsity', 'end_step': 0})
  paths = [item.path for item in constraints.find(model)]
  assert 'projected_0' in paths
  projected = model.layers[2]
  assert np.mean(projected.matrix.numpy() == 0) == 0.5
  found = modelgarden_opt.export(
      model, str(tmp_path / 'm.tflite'), representative_data=IMAGES)
  assert not found['float_ops'] and found['num_delegate_partitions'] == 1
  assert found['mean_difference_steps'] < 0.3


def test_a_rule_leaves_it_in_float():
  _register()
  floats = _model()
  model = modelgarden_opt.compress(floats, quantization={
      'rules': [{'layer_type': 'Projected', 'enabled': False}]})
  assert not model.layers[2].quantizers_by_name
  with calibration.quantizer_mode(model, calibration.Mode.PASS_THROUGH):
    np.testing.assert_array_equal(model(IMAGES), floats(IMAGES))


def test_a_recipe_without_an_output_or_a_second_one_is_refused():
  with pytest.raises(ValueError, match='needs the range `output`'):
    recipes.register('Projected', product={})
  _register()
  with pytest.raises(ValueError, match="'Projected' is registered already"):
    _register()
