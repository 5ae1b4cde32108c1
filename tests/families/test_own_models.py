"""Models of a user's own Keras layers: quantized, or refused at once."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.configs import pruning
from modelgarden_opt.configs import quantization
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.export import formats
from modelgarden_opt.modeling import batch_norm
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import factory
from tests import conftest

layers = tf_keras.layers
IMAGES = conftest.random_images([16, 16, 16, 4])


def _conv(x, activation=None, **kwargs):
  return layers.Conv2D(
      8, 3, padding='same', activation=activation, **kwargs)(x)


def _join(layer, count):
  """A join of convolutions, every other with an activation."""
  def build(x):
    return _conv(layer([
        _conv(x, 'relu' if index % 2 else None) for index in range(count)]))
  return build


def _u_net(x):
  fine = _conv(x, 'relu')
  coarse = _conv(layers.MaxPooling2D()(fine), 'relu')
  return _conv(layers.Concatenate()([fine, layers.UpSampling2D()(coarse)]))


def _attention(x):
  x = _conv(x, 'relu')
  pooled = layers.GlobalAveragePooling2D(keepdims=True)(x)
  gate = layers.Conv2D(8, 1, activation='sigmoid')(pooled)
  return _conv(layers.Multiply()([x, gate]))


def _pre_activated(x):
  x = _conv(x)
  y = layers.ReLU()(layers.BatchNormalization()(x))
  return layers.Add()([x, _conv(y)])


def _nested():
  """A model in a model."""
  return tf_keras.Sequential([layers.Conv2D(8, 3, padding='same')])


def _classifier(x):
  x = layers.Flatten()(_conv(x, 'relu'))
  return layers.Dense(10, 'softmax')(layers.Dense(16, 'relu')(x))


def _shared(x):
  relu = layers.ReLU()
  return relu(_conv(relu(_conv(x))))


def _shared_unit(x):
  """Convolution, norm and activation, run twice in this order."""
  unit = (layers.Conv2D(4, 3, padding='same', use_bias=False),
          layers.BatchNormalization(), layers.ReLU())
  for _ in range(2):
    for layer in unit:
      x = layer(x)
  return x


def _siamese(x):
  """One nested model reads two views of the image."""
  inputs = tf_keras.Input([16, 8, 4])
  branch = tf_keras.Model(inputs, _conv(_conv(inputs, 'relu'), 'relu'))
  return layers.Concatenate()([
      branch(layers.Cropping2D(((0, 0), side))(x))
      for side in ((0, 8), (8, 0))])


CASES = {
    **{f'conv_{name}': lambda x, name=name: _conv(_conv(x, name))
       for name in ('relu', 'swish', 'sigmoid', 'tanh', 'gelu', 'softmax')},
    'depthwise_relu': lambda x: layers.DepthwiseConv2D(3, activation='relu')(x),
    'classifier': _classifier,
    'softmax': lambda x: layers.Softmax()(
        layers.Dense(10)(layers.GlobalAveragePooling2D()(_conv(x)))),
    'norm_behind_relu': lambda x: _conv(
        layers.BatchNormalization()(_conv(x, 'relu'))),
    'norm_behind_pooling': lambda x: _conv(
        layers.ReLU()(layers.BatchNormalization()(
            layers.MaxPooling2D()(_conv(x, 'relu'))))),
    'norm_first': lambda x: _conv(layers.BatchNormalization()(x)),
    'norm_behind_dense': lambda x: layers.Dense(3)(
        layers.ReLU()(layers.BatchNormalization()(
            layers.Dense(8)(layers.Flatten()(x))))),
    'pre_activated': _pre_activated,
    'leaky_relu': lambda x: _conv(layers.LeakyReLU(0.2)(_conv(x))),
    'sloped_relu': lambda x: _conv(layers.ReLU(negative_slope=0.1)(_conv(x))),
    'add_3': _join(layers.Add(), 3),
    'multiply_3': _join(layers.Multiply(), 3),
    'subtract': _join(layers.Subtract(), 2),
    'average_3': _join(layers.Average(), 3),
    'maximum_3': _join(layers.Maximum(), 3),
    'minimum': _join(layers.Minimum(), 2),
    'concatenate': _join(layers.Concatenate(), 3),
    'attention': _attention,
    'u_net': _u_net,
    'padding_first': lambda x: layers.Conv2D(8, 3, 2, activation='relu')(
        layers.ZeroPadding2D(1)(x)),
    'padding_behind_swish': lambda x: layers.Conv2D(8, 3)(
        layers.ZeroPadding2D(1)(_conv(x, 'swish'))),
    'pooling_first': lambda x: _conv(layers.MaxPooling2D()(x)),
    'activation_first': lambda x: _conv(layers.Activation('relu')(x)),
    'cropping': lambda x: _conv(layers.Cropping2D(1)(_conv(x, 'relu'))),
    'nearest': lambda x: _conv(layers.UpSampling2D(2)(_conv(x))),
    'bilinear': lambda x: _conv(
        layers.UpSampling2D(2, interpolation='bilinear')(_conv(x))),
    'permute': lambda x: _conv(layers.Permute((2, 1, 3))(_conv(x))),
    'global_max': lambda x: layers.Dense(10)(
        layers.GlobalMaxPooling2D()(_conv(x))),
    'overlapping_average': lambda x: _conv(
        layers.AveragePooling2D(3, 2, 'same')(_conv(x))),
    'relu_behind_pooling': lambda x: _conv(
        layers.ReLU()(layers.MaxPooling2D()(_conv(x)))),
    'dropouts': lambda x: _conv(layers.GaussianNoise(0.1)(
        layers.SpatialDropout2D(0.1)(_conv(layers.Dropout(0.1)(x), 'relu')))),
    'linear': lambda x: _conv(layers.Activation('linear')(_conv(x))),
    'shared_relu': lambda x: _conv(_shared(x)),
    'shared_unit': lambda x: _conv(_shared_unit(x)),
    'siamese': _siamese,
    'nested': lambda x: _conv(tf_keras.Sequential([
        layers.Conv2D(8, 3, activation='relu'), layers.Conv2D(4, 3)])(
            _conv(x, 'relu'))),
    # A rounding more or less than in the file is 0.26 output steps.
    'relu_behind_nested': lambda x: _conv(layers.ReLU()(_nested()(x))),
    'concatenated_nested': lambda x: _conv(
        layers.Concatenate()([_nested()(x), _nested()(x)])),
}
# Means of pixels, which TFLite rounds half away from zero, and a mix of grids.
_ROUNDED_TWICE = ('overlapping_average',)


def _model(build):
  inputs = tf_keras.Input([16, 16, 4])
  model = tf_keras.Model(inputs, build(inputs))
  conftest.randomize_norms(model)
  rng = np.random.default_rng(2)
  for weight in model.trainable_weights:
    if 'bias' in weight.name:
      weight.assign(rng.normal(0.0, 0.2, weight.shape))
  return model


def _calibrated(model, *rules):
  quantized = factory.compress(model, quantization.Quantization(
      rules=[quantization.QuantizationRule(path=path, enabled=False)
             for path in rules]))
  calibration.calibrate(
      quantized, tf.data.Dataset.from_tensors((IMAGES, 0)))
  return quantized


def _file(model, tmp_path):
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(model, 'int8'))
  return str(path)


@pytest.mark.parametrize('name', CASES)
def test_a_model_is_integers_throughout_and_agrees(name, tmp_path):
  floats = _model(CASES[name])
  model = _calibrated(floats)
  with calibration.quantizer_mode(model, calibration.Mode.PASS_THROUGH):
    np.testing.assert_array_equal(
        model(IMAGES, training=False), floats(IMAGES, training=False))
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(model(IMAGES, training=True)**2)
  assert None not in tape.gradient(loss, model.trainable_variables)
  expected = model(IMAGES, training=False).numpy()
  assert conftest.sqnr_db(floats(IMAGES).numpy(), expected) >= 25
  path = _file(model, tmp_path)
  assert not census.take(path).float_ops
  file = litert_model.Model(path)
  steps = np.abs(file(IMAGES.numpy()) - expected) / file.output_scale
  assert np.mean(steps) <= (0.3 if name in _ROUNDED_TWICE else 0.2)


def test_a_compressed_model_is_compressed_again():
  model = factory.compress(_model(CASES['leaky_relu']),
                           quantization.Quantization())
  again = factory.compress(model, quantization.Quantization())
  assert [type(a) for a in again.layers] == [type(a) for a in model.layers]
  layer = model.layers[2]
  copy = type(layer).from_config(layer.get_config())
  np.testing.assert_array_equal(
      copy.activation(IMAGES), layer.activation(IMAGES))


def test_a_sequential_model_is_quantized(tmp_path):
  floats = tf_keras.Sequential([
      layers.InputLayer([16, 16, 4]), layers.Conv2D(8, 3, activation='relu'),
      layers.Flatten(), layers.Dense(4)])
  model = _calibrated(floats)
  path = _file(model, tmp_path)
  assert not census.take(path).float_ops
  file = litert_model.Model(path)
  np.testing.assert_allclose(
      file(IMAGES.numpy()), model(IMAGES), atol=1.01 * file.output_scale)


def test_what_other_models_do_with_a_layer_does_not_count(tmp_path):
  inputs = tf_keras.Input([16, 16, 4])
  x = _conv(_conv(inputs))
  layers.ReLU()(x)  # Part of no model, or of another.
  path = _file(_calibrated(tf_keras.Model(inputs, x)), tmp_path)
  assert not census.take(path).float_ops


def test_an_output_of_a_model_is_quantized_whoever_else_reads_it(tmp_path):
  inputs = tf_keras.Input([16, 16, 4])
  x = _conv(inputs)
  model = _calibrated(tf_keras.Model(inputs, [x, _conv(layers.ReLU()(x))]))
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(
      model, 'int8', output=formats.Output(
          compute=lambda outputs: outputs[0])))
  assert not census.take(str(path)).float_ops
  assert model.layers[1].output_quantizer is not None


class Doubled(layers.Layer):
  """A layer of a user's own, without weights."""

  def call(self, inputs):
    return inputs * 2.0


class _Subclassed(tf_keras.Model):
  """A model whose layers nobody can list."""

  def call(self, inputs):
    return inputs


REFUSED = {
    'elu_0 (ELU): cannot be quantized; ReLU and LeakyReLU can': layers.ELU(),
    'p_re_lu_0 (PReLU)': layers.PReLU(),
    "conv2d_0 (Conv2D): activation 'elu'":
        layers.Conv2D(3, 1, activation='elu'),
    'separable_conv2d_0 (SeparableConv2D): cannot be quantized; a DepthwiseCon':
        layers.SeparableConv2D(4, 3),
    'conv2d_transpose_0 (Conv2DTranspose)': layers.Conv2DTranspose(4, 3),
    'rescaling_0 (Rescaling): cannot be quantized; scale images in front':
        layers.Rescaling(1 / 255),
    'layer_normalization_0 (LayerNormalization)': layers.LayerNormalization(),
    're_lu_0 (ReLU): of the ReLU layers only': layers.ReLU(max_value=4.0),
    'softmax_0 (Softmax): a softmax can': layers.Softmax(axis=1),
    'lambda_0 (Lambda)': layers.Lambda(lambda x: x + 1.0),
    'doubled_0 (Doubled): layers of this type': Doubled(),
    "tf_op_lambda_0 (TFOpLambda): function 'abs'": tf.abs,
    'batch_normalization_0 (BatchNormalization): axis [1] cannot':
        layers.BatchNormalization(axis=1),
    'is neither a functional model': _Subclassed(),
}


@pytest.mark.parametrize('expected', REFUSED)
def test_what_cannot_be_quantized_is_refused_by_path(expected):
  model = _model(lambda x: REFUSED[expected](x))
  with pytest.raises(errors.UsageError) as e:
    factory.compress(model, quantization.Quantization())
  assert expected in str(e.value)
  assert ': 1 layers ' not in str(e.value)
  assert 'rules {path: ..., enabled: false}' in str(e.value)


def test_all_layers_that_cannot_are_listed_in_one_error():
  model = _model(lambda x: layers.ELU()(Doubled()(
      _conv(layers.PReLU()(_conv(x, 'elu'))))))
  with pytest.raises(errors.UsageError) as e:
    factory.compress(model, quantization.Quantization())
  assert '4 layers of the model cannot be compressed' in str(e.value)
  for path in ('elu_0', 'doubled_0', 'p_re_lu_0', 'conv2d_0'):
    assert f'\n  {path} (' in str(e.value)


@pytest.mark.parametrize(('layer', 'path', 'ops'), [
    (layers.ELU(), 'elu_0', {'ELU': 1}),
    (layers.Conv2D(3, 1, activation='elu'), 'conv2d_1',
     {'CONV_2D': 1, 'ELU': 1}),
    (layers.SeparableConv2D(4, 3), 'separable_conv2d_0',
     {'DEPTHWISE_CONV_2D': 1, 'CONV_2D': 1}),
    # Between quantized tensors the converter makes these ops on integers.
    (Doubled(), 'doubled_0', {}),
    (layers.Conv2DTranspose(4, 3), 'conv2d_transpose_0', {}),
])
def test_a_rule_leaves_such_a_layer_in_float_and_nothing_else(
    layer, path, ops, tmp_path):
  model = _calibrated(
      _model(lambda x: _conv(layer(_conv(x, 'relu')), 'relu')), path)
  found = census.take(_file(model, tmp_path)).float_ops
  assert dict(found) == ops


@pytest.mark.parametrize('axis', [-1, 1])
def test_statistics_are_estimated_over_any_axis(axis):
  norm = layers.BatchNormalization(axis=axis, momentum=0.0)
  model = factory.compress(
      _model(lambda x: _conv(norm(x))), pruning.Pruning())
  batch_norm.reestimate(model, [IMAGES])
  copy = model.layers[1]
  expected = np.var(IMAGES, axis=tuple({0, 1, 2, 3} - {axis % 4}), ddof=1)
  np.testing.assert_allclose(copy.moving_variance, expected, rtol=1e-5)


def test_pruning_alone_takes_any_layer_without_weights():
  model = factory.compress(
      _model(lambda x: _conv(layers.ELU()(Doubled()(_shared(x))))),
      pruning.Pruning())
  assert len(constraints.find(model)) == 3
