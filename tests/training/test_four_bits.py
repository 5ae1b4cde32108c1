"""Runs with kernels of 4 bits: learned ranges, frozen and dampened weights."""

import shutil

import numpy as np
from official.core import config_definitions as cfg
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.configs import overrides
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import batch_norm
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import factory
from modelgarden_opt.tasks import image_classification
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import batch_norm_action
from modelgarden_opt.training import compression_callback
from modelgarden_opt.training import experiment
from modelgarden_opt.training import metrics
from tests import conftest

_FOUR_BITS = {'change_num_bits': True, 'num_bits_weight': 4, 'low_bit': 'all'}
_STEPS = 12


def _train(tiny_params, float_run, model_dir):
  """Trains with averages, from the last checkpoint in a directory if any."""
  experiment.run_experiment(tiny_params('mobilenet_v2_qat', {
      'task': {
          'model': {'dropout_rate': 0.0,
                    'norm_activation': {'norm_momentum': 1.0}},
          'quantization': {
              **_FOUR_BITS, 'pretrained_original_checkpoint': float_run,
              'calibration_steps': 2, 'weight_range': 'learned',
              'oscillation': 'freeze', 'oscillation_momentum': 0.2,
              'freezing_threshold': 0.15, 'batch_norm_steps': 2}},
      'trainer': {
          'train_steps': _STEPS, 'steps_per_loop': 3, 'summary_interval': 3,
          'checkpoint_interval': 3,
          'optimizer_config': {'ema': {'average_decay': 0.9}}}}),
      'train', model_dir)


@pytest.fixture(scope='module')
def trained(tiny_params, float_run, tmp_path_factory):
  """A run with learned ranges, frozen weights and moving averages."""
  model_dir = str(tmp_path_factory.mktemp('trained'))
  _train(tiny_params, float_run, model_dir)
  return model_dir


def _checkpoint(model_dir):
  reader = tf.train.load_checkpoint(f'{model_dir}/ckpt-{_STEPS}')
  return {name: reader.get_tensor(name)
          for name in reader.get_variable_to_shape_map()
          if name.endswith('VARIABLE_VALUE') and name.startswith('model')}


def _quantizers(model):
  """Returns the leaves whose kernels have 4 bits, by path."""
  return {layer.path: layer for layer in internals.layers_of(model)
          if isinstance(layer, leaves.Rewired) and layer.chain
          and layer.chain.quantization.num_bits == 4}


def test_an_interrupted_run_is_an_uninterrupted_one(
    trained, tiny_params, float_run, tmp_path):
  resumed = str(tmp_path / 'resumed')
  shutil.copytree(trained, resumed)
  tf.compat.v1.train.update_checkpoint_state(
      resumed, f'{resumed}/ckpt-{_STEPS // 2}')
  _train(tiny_params, float_run, resumed)
  expected, found = _checkpoint(trained), _checkpoint(resumed)
  assert expected.keys() == found.keys()
  for kind in ('kernel_range', 'integers', 'frequency', 'average'):
    assert any(f'/quantized_{kind}/' in name for name in found), kind
  for name, value in expected.items():
    if '/quantized_' in name or '/kernel' in name:
      np.testing.assert_allclose(
          found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.fixture(scope='module')
def models(float_run, trained):
  """The models before and after, the latter with its last weights."""
  before, after = (run_directory.load(run, 'latest').model
                   for run in (float_run, trained))
  # Those that were loaded are averages.
  tf.train.Checkpoint(model=after).read(
      f'{trained}/ckpt-{_STEPS}').expect_partial()
  return before, after


def test_frozen_weights_are_their_integers(models):
  num_frozen, model = 0, models[1]
  for path, layer in _quantizers(model).items():
    quantizer = layer.chain.quantization
    state = quantizer.oscillation
    integers, _ = quantizer._integers(tf.convert_to_tensor(
        layer.kernel_variable))
    frozen = state.frozen().numpy()
    np.testing.assert_array_equal(
        integers.numpy()[frozen], state.frozen_integers().numpy()[frozen], path)
    num_frozen += frozen.sum()
  assert num_frozen > 0


def test_ranges_are_trained_from_those_of_the_weights(models):
  before, after = models
  layer = _quantizers(after)['dense_0']
  quantizer = layer.chain.quantization
  searched = quantizer.search_range(before.layers[-1].kernel)
  assert 0.0 < abs(float(quantizer.limit / searched) - 1.0) < 0.2


def test_statistics_are_estimated_at_the_end(models):
  """Training itself leaves them alone, with a momentum of 1."""
  before, after = (model.backbone.layers[1]._norm0 for model in models)
  assert not np.allclose(before.moving_mean, after.moving_mean, rtol=1e-2)


def test_summaries_tell_the_shares(trained):
  found = [record for record in metrics.read(trained)
           if 'quantization/frozen' in record]
  assert [record['step'] for record in found] == [3, 6, 9, 12]
  assert found[0]['quantization/frozen'] < found[-1]['quantization/frozen']
  assert {'quantization/frozen/dense_0', 'quantization/oscillating'} <= (
      found[0].keys())
  assert 0.0 < found[0]['quantization/clipped'] < 0.2


@pytest.mark.parametrize('kind', ['adamw', 'lars', 'adamw_experimental'])
def test_weight_decay_leaves_ranges_alone(kind):
  field = 'weight_decay' if 'experimental' in kind else 'weight_decay_rate'
  config = cfg.OptimizationConfig({
      'optimizer': {'type': kind, kind: {field: 0.5}},
      'learning_rate': {'type': 'constant',
                        'constant': {'learning_rate': 0.1}}})
  before = config.as_dict()
  optimizer = image_classification.ImageClassificationTask.create_optimizer(
      config)
  assert config.as_dict() == before
  layer = tf_keras.layers.Dense(3)
  layer.build([None, 2])
  limit = layer.add_weight('quantized_kernel_range', [], initializer='ones')
  kernel = layer.kernel.numpy()
  variables = [layer.kernel, limit]
  optimizer.apply_gradients(
      [(tf.zeros_like(v), v) for v in variables])
  assert float(limit) == 1.0
  assert np.linalg.norm(layer.kernel) < np.linalg.norm(kernel)


def _small():
  image = tf_keras.Input([8, 8, 3])
  x = tf_keras.layers.Conv2D(4, 1, use_bias=False)(image)
  x = tf_keras.layers.BatchNormalization(momentum=1.0)(x)
  x = tf_keras.layers.GlobalAveragePooling2D()(x)
  return tf_keras.Model(image, tf_keras.layers.Dense(2)(x))


def _with_every_kernel():
  image = tf_keras.Input([8, 8, 3])
  x = image
  for layer in (tf_keras.layers.Conv2D(8, 3, padding='same', use_bias=False),
                tf_keras.layers.DepthwiseConv2D(3, use_bias=False),
                tf_keras.layers.Conv2D(12, 1, use_bias=False)):
    x = tf_keras.layers.BatchNormalization()(layer(x))
    x = tf_keras.layers.ReLU()(x)
  x = tf_keras.layers.GlobalAveragePooling2D()(x)
  return tf_keras.Model(image, tf_keras.layers.Dense(6)(x))


def _low(**fields):
  return quantization_cfg.Quantization(**{
      **_FOUR_BITS, 'rules': [quantization_cfg.QuantizationRule(
          path='*', num_bits_weight=4)], **fields})


# TFLite's layout of a kernel, by the op that reads it.
_LAYOUTS = {
    'CONV_2D': lambda k: np.moveaxis(k, -1, 0),
    'DEPTHWISE_CONV_2D': lambda k: k.reshape(1, *k.shape[:2], -1),
    'FULLY_CONNECTED': np.transpose,
}


@pytest.mark.parametrize('weight_range', ['mse', 'learned'])
@pytest.mark.parametrize('granularity', ['per_channel', 'per_tensor'])
def test_the_file_holds_the_ranges_of_the_model(
    weight_range, granularity, tmp_path):
  images = conftest.random_images([32, 8, 8, 3])
  floats = _with_every_kernel()
  conftest.randomize_norms(floats)
  model = factory.compress(floats, _low(
      weight_range=weight_range, weight_granularity=granularity))
  constraints.start(constraints.find(model))
  for layer in _quantizers(model).values():
    limit = layer.chain.quantization.limit
    limit.assign(limit * 0.6)  # Many weights lie outside.
  calibration.calibrate(model, [(images, None)])
  path = str(tmp_path / 'model.tflite')
  with open(path, 'wb') as f:
    f.write(convert.convert(model, 'int8', runtime='reference'))
  kernels = inspection.kernels(path)
  assert len(kernels) == 4 and {k.dtype for k in kernels} == {'int4'}
  for layer in _quantizers(model).values():
    integers, _ = layer.chain.quantization._integers(
        tf.convert_to_tensor(layer.kernel_variable))
    assert np.sum(np.abs(integers) == 7) > 0.1 * np.size(integers)
    assert any(
        kernel.values.shape == (value := _LAYOUTS[kernel.op](
            integers.numpy())).shape and np.array_equal(kernel.values, value)
        for kernel in kernels if integers.shape.rank == 2 or
        kernel.op != 'FULLY_CONNECTED'), layer.path
  file = litert_model.Model(path)
  difference = np.abs(file(images.numpy()) - model(images, training=False))
  assert np.mean(difference) < 0.3 * file.output_scale


def test_dampening_draws_weights_to_integers_under_fit():
  images = conftest.random_images([64, 8, 8, 3]).numpy()
  distances = {}
  for oscillation in ('none', 'dampen'):
    tf_keras.utils.set_random_seed(1)
    model = factory.compress(_small(), _low(
        weight_range='learned', oscillation=oscillation, dampening_weight=10.0,
        dampening_end_step=10))
    constraints.start(constraints.find(model))
    model.compile(tf_keras.optimizers.SGD(0.02), 'mse')
    model.fit(images, np.zeros([64, 2]), 8, epochs=5, verbose=0)
    layer = model.layers[-1]
    limit = float(layer.chain.quantization.limit)
    ratio = np.clip(layer.kernel / limit, -1.0, 1.0) * 7.0
    distances[oscillation] = np.mean(np.abs(ratio - np.round(ratio)))
  assert distances['dampen'] < 0.5 * distances['none']


def test_statistics_are_estimated_with_the_quantizers_on():
  images = conftest.random_images([16, 8, 8, 3])
  model = factory.compress(_small(), _low())
  calibration.calibrate(model, [(images, None)])
  outputs = tf_keras.Model(model.input, model.layers[1].output)(images).numpy()
  with calibration.quantizer_mode(model, calibration.Mode.PASS_THROUGH):
    floats = tf_keras.Model(
        model.input, model.layers[1].output)(images).numpy()
  batch_norm.reestimate(model, [images])
  mean = model.layers[2].moving_mean.numpy()
  np.testing.assert_allclose(mean, outputs.mean((0, 1, 2)), atol=1e-5)
  assert np.max(np.abs(mean - floats.mean((0, 1, 2)))) > 1e-4


def test_the_larger_number_of_batches_counts(tiny_params):
  config = tiny_params('mobilenet_v2_qat').task
  config.quantization.batch_norm_steps = 3
  assert batch_norm_action.num_batches(config) == 3
  config.batch_norm_steps = 5
  assert batch_norm_action.num_batches(config) == 5
  config.quantization = None
  assert batch_norm_action.num_batches(config) == 5


def test_fit_estimates_with_the_images_of_its_callback():
  images = conftest.random_images([16, 8, 8, 3]).numpy()
  model = factory.compress(_small(), _low(batch_norm_steps=1))
  model.compile('sgd', 'mse')
  fit = lambda *callbacks: model.fit(  # noqa: E731
      images, np.zeros([16, 2]), verbose=0, callbacks=[*callbacks])
  with pytest.raises(errors.UsageError, match='no callback that runs them'):
    fit()
  with pytest.raises(errors.UsageError, match='quantization.batch_norm_steps'):
    fit(compression_callback.CompressionCallback())
  assert not np.any(model.layers[2].moving_mean)
  fit(compression_callback.CompressionCallback(images=[images]))
  assert np.all(model.layers[2].moving_mean.numpy() != 0.0)


@pytest.mark.parametrize(('fields', 'expected'), [
    ({'weight_range': 'mean'}, 'weight_range: must be one of max, mse, learned,'
     " received 'mean'"),
    ({'rules': [{'path': '*', 'weight_range': 'x'}]},
     'rules[0].weight_range: must be one of'),
    ({'oscillation': 'stop'}, 'oscillation: must be one of none, dampen'),
    ({'oscillation': 'dampen'}, 'dampening_end_step: must be >= 1'),
    ({'oscillation': 'dampen', 'dampening_end_step': 11},
     'dampening_end_step: 11 is after trainer.train_steps 10'),
    ({'oscillation': 'dampen', 'dampening_end_step': 1,
      'dampening_weight': 0.0}, 'dampening_weight: must be > 0'),
    ({'oscillation': 'freeze', 'freezing_threshold': 1.0},
     'freezing_threshold: must lie in (0, 1), received 1.0'),
    ({'oscillation': 'freeze', 'oscillation_momentum': 0.0},
     'oscillation_momentum: must lie in (0, 1], received 0.0'),
    ({'batch_norm_steps': -1}, 'batch_norm_steps: must be >= 0, received -1'),
])
def test_fields_are_checked(fields, expected):
  problem, = overrides.problems_of(
      {'quantization': quantization_cfg.Quantization(**fields)}, 10)
  assert problem.startswith(f'quantization.{expected}')


def test_freezing_is_refused_beside_clusters(tiny_params):
  params = tiny_params('mobilenet_v2_cqat', {'task': {'quantization': {
      'oscillation': 'freeze'}}})
  with pytest.raises(errors.UsageError, match=(
      '^task.quantization.oscillation: freeze would take single weights')):
    overrides.finish(params)


def test_oscillations_are_those_of_few_bits():
  block = quantization_cfg.Quantization(oscillation='freeze')
  with pytest.raises(errors.UsageError, match='fewer than 8 bits'):
    factory.compress(_small(), block)
  made = factory.compress(_small(), _low(oscillation='freeze', rules=[
      quantization_cfg.QuantizationRule(path='conv2d_0', num_bits_weight=8)]))
  assert made.layers[1].chain.quantization.oscillation is None
  assert made.layers[-1].chain.quantization.oscillation.freezes


def test_nothing_is_added_by_default():
  model = factory.compress(_small(), _low())
  names = [v.name for v in model.variables]
  assert not any('kernel_range' in n or 'integers' in n for n in names)
