"""Compressed Keras models: made, trained by plain `fit`, saved and loaded."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import modelgarden_opt
from modelgarden_opt import errors
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.configs import overrides
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import constraints
from modelgarden_opt.training import strategies
from tests import conftest

layers = tf_keras.layers
IMAGES = conftest.random_images([64, 16, 16, 3]).numpy()
LABELS = np.arange(64) % 4
_SPARSE = {'final_sparsity': 0.75, 'end_step': 6, 'frequency': 2}


def two_branches():
  """Two branches of one image, joined along the channels."""
  image = tf_keras.Input([16, 16, 3])
  fine = layers.Conv2D(8, 3, padding='same', activation='relu')(image)
  coarse = layers.Conv2D(8, 5, padding='same', use_bias=False)(image)
  coarse = layers.ReLU()(layers.BatchNormalization()(coarse))
  x = layers.Concatenate()([fine, coarse])
  x = layers.GlobalAveragePooling2D()(x)
  return tf_keras.Model(image, layers.Dense(4)(x), name='two_branches')


def sequential():
  return tf_keras.Sequential([
      layers.InputLayer([16, 16, 3]),
      layers.Conv2D(8, 3, strides=2, activation='relu'),
      layers.Flatten(), layers.Dense(4)], name='small')


def _fit(model, epochs=1, **kwargs):
  if model.optimizer is None:
    model.compile('adam', tf_keras.losses.SparseCategoricalCrossentropy(True))
  return model.fit(IMAGES, LABELS, 16, epochs, 0, **kwargs)


def _sparsity(model):
  return constraints.sparsity(constraints.find(model))


@pytest.mark.parametrize('make', [two_branches, sequential])
def test_a_schedule_runs_under_fit_and_goes_on_in_the_next(make):
  model = modelgarden_opt.compress(make(), pruning=_SPARSE)
  callback = modelgarden_opt.CompressionCallback()
  history = _fit(model, callbacks=[callback])
  half = history.history['sparsity'][0]
  assert 0.5 < half < 0.75
  _fit(model, callbacks=[callback])
  assert _sparsity(model) == pytest.approx(0.75, abs=0.01)
  kernel = constraints.find(model)[0].kernel.numpy()
  _fit(model)  # Nothing is due any more; what is pruned stays so.
  assert not constraints.problems(constraints.find(model))
  assert not np.array_equal(kernel, constraints.find(model)[0].kernel)


@pytest.mark.parametrize(('blocks', 'named'), [
    ({'pruning': _SPARSE}, 'pruning masks until step 6'),
    ({'quantization': {'freeze_ranges_step': 2}}, 'freeze_ranges_step 2')])
def test_fit_without_the_callback_is_refused_and_names_it(blocks, named):
  model = modelgarden_opt.compress(
      sequential(), calibration_data=IMAGES if 'quantization' in blocks
      else None, **blocks)
  with pytest.raises(errors.UsageError) as e:
    _fit(model, callbacks=[tf_keras.callbacks.TerminateOnNaN()])
  assert named in str(e.value)
  assert 'modelgarden_opt.CompressionCallback()' in str(e.value)


def test_ranges_freeze_at_their_step():
  model = modelgarden_opt.compress(
      sequential(), quantization={'freeze_ranges_step': 2},
      calibration_data=IMAGES)
  quantizer = next(q for q in calibration.quantizers_of(model)
                   if hasattr(q, 'maximum'))
  _fit(model, callbacks=[modelgarden_opt.CompressionCallback()])
  assert quantizer._frozen == pytest.approx(
      (quantizer.minimum.numpy(), quantizer.maximum.numpy()))


def test_clusters_are_kept_by_fit_alone():
  model = modelgarden_opt.compress(
      two_branches(), clustering={'number_of_clusters': 4})
  before = constraints.find(model)[0].kernel.numpy()
  _fit(model)
  assert not constraints.problems(constraints.find(model))
  assert not np.array_equal(before, constraints.find(model)[0].kernel)


def test_a_part_of_another_model_is_scheduled_by_a_callback_for_it():
  part = modelgarden_opt.compress(two_branches(), pruning=_SPARSE)
  image = tf_keras.Input([16, 16, 3])
  whole = tf_keras.Model(image, layers.Dense(4)(part(image)))
  with pytest.raises(errors.UsageError, match='is not compressed'):
    _fit(whole, callbacks=[modelgarden_opt.CompressionCallback()])
  _fit(whole, 2, callbacks=[modelgarden_opt.CompressionCallback(part)])
  assert _sparsity(part) == pytest.approx(0.75, abs=0.01)
  assert not constraints.problems(constraints.find(part))


def test_two_replicas_keep_masks_and_agree():
  # That of the process: a second one would mix up their collective ops.
  params = overrides.base('mnist_cnn')
  params.runtime.override(
      {'distribution_strategy': 'mirrored', 'num_logical_cpus': 2})
  strategy = strategies.get_strategy(params)
  assert strategy.num_replicas_in_sync == 2
  with strategy.scope():
    model = modelgarden_opt.compress(
        two_branches(), quantization={}, pruning=_SPARSE)
    modelgarden_opt.calibrate(model, IMAGES)
    model.compile('adam', tf_keras.losses.SparseCategoricalCrossentropy(True))
  _fit(model, 2, callbacks=[modelgarden_opt.CompressionCallback()])
  assert _sparsity(model) == pytest.approx(0.75, abs=0.01)
  for item in constraints.find(model):
    first, second = strategy.experimental_local_results(item.kernel)
    np.testing.assert_array_equal(first, second)


def test_averages_of_weights_have_the_mask():
  model = modelgarden_opt.compress(sequential(), pruning=_SPARSE)
  model.compile(tf_keras.optimizers.Adam(use_ema=True),
                tf_keras.losses.SparseCategoricalCrossentropy(True))
  _fit(model, 2, callbacks=[modelgarden_opt.CompressionCallback()])
  assert not constraints.problems(constraints.find(model))


@pytest.mark.parametrize('name', ['m.keras', 'saved_model'])
@pytest.mark.parametrize('make', [two_branches, sequential])
def test_a_saved_model_goes_on_where_it_stopped(make, name, tmp_path):
  model = modelgarden_opt.compress(
      make(), quantization={}, pruning=_SPARSE, calibration_data=IMAGES)
  callback = modelgarden_opt.CompressionCallback()
  _fit(model, callbacks=[callback])
  path = str(tmp_path / name)
  modelgarden_opt.save(model, path)
  loaded = modelgarden_opt.load_model(path)
  loaded_before = loaded(IMAGES)
  np.testing.assert_array_equal(loaded_before, model(IMAGES))
  assert _sparsity(loaded) == _sparsity(model)
  _fit(loaded, callbacks=[callback])
  assert _sparsity(loaded) == pytest.approx(0.75, abs=0.01)
  assert [p.name for p in tmp_path.iterdir()] == [name]
  if name == 'saved_model':
    served = tf.saved_model.load(path)
    np.testing.assert_allclose(
        served.serve(IMAGES), loaded_before, atol=1e-5)


def test_a_layer_that_keras_cannot_rebuild_is_refused():
  class Shifted(layers.Layer):
    def __init__(self, by):
      super().__init__()
      self._by = by

    def call(self, inputs):
      return inputs + self._by()

  image = tf_keras.Input([16, 16, 3])
  x = layers.Conv2D(4, 3)(image)
  with pytest.raises(errors.UsageError, match='Shifted.*get_config'):
    modelgarden_opt.compress(
        tf_keras.Model(image, Shifted(lambda: 1.0)(x)), pruning={})


def test_a_directory_of_anything_else_is_not_replaced(tmp_path):
  (tmp_path / 'kept.txt').write_text('x')
  model = modelgarden_opt.compress(
      sequential(), pruning={'pruning_schedule': 'ConstantSparsity',
                             'end_step': 0})
  with pytest.raises(errors.UsageError, match='holds no SavedModel'):
    modelgarden_opt.save(model, str(tmp_path))
  assert [p.name for p in tmp_path.iterdir()] == ['kept.txt']


def test_a_remote_path_is_refused_by_name_and_leaves_nothing(
    tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  expected = "path: must be a local path, received 'ram://a/model.keras'"
  with pytest.raises(errors.UsageError, match=expected):
    modelgarden_opt.save(sequential(), 'ram://a/model.keras')
  with pytest.raises(errors.UsageError, match=expected):
    modelgarden_opt.load_model('ram://a/model.keras')
  assert [*tmp_path.iterdir()] == []


def test_pruned_then_quantized_keeps_its_zeros():
  pruned = modelgarden_opt.compress(two_branches(), pruning={
      'pruning_schedule': 'ConstantSparsity', 'end_step': 0})
  both = modelgarden_opt.compress(
      pruned, quantization={}, pruning={'pruning_schedule': 'Preserve'},
      calibration_data=IMAGES)
  _fit(both)
  assert _sparsity(both) == pytest.approx(0.5, abs=0.01)


def test_a_compressed_model_does_not_lose_a_technique_silently():
  quantized = modelgarden_opt.compress(sequential(), quantization={})
  with pytest.raises(
      errors.UsageError, match='compressed by quantization already'):
    modelgarden_opt.compress(quantized, pruning=_SPARSE)


def test_a_file_of_keras_3_gets_the_remedy(tmp_path):
  path = str(tmp_path / 'm.keras')
  # What Keras 3.12 writes of a Sequential of an input.
  config = {'module': 'keras', 'class_name': 'Sequential', 'config': {
      'name': 'sequential', 'layers': [{
          'module': 'keras.layers', 'class_name': 'InputLayer', 'config': {
              'batch_shape': [None, 4], 'optional': False},
          'registered_name': None}]}}
  with zipfile.ZipFile(path, 'w') as content:
    content.writestr('metadata.json', json.dumps({'keras_version': '3.12.0'}))
    content.writestr('config.json', json.dumps(config))
    content.writestr('model.weights.h5', b'')
  with pytest.raises(
      errors.UsageError, match='saved by Keras 3.*TF_USE_LEGACY_KERAS'):
    modelgarden_opt.load_model(path)


def test_calibration_takes_any_form_of_data():
  data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(32)
  ranges = []
  for form in (IMAGES, (IMAGES, LABELS), data, data.map(lambda x, y: x),
               [IMAGES[:32], IMAGES[32:]],
               lambda: iter([[IMAGES[:32]], [IMAGES[32:]]])):
    model = modelgarden_opt.compress(sequential_of_ones(), quantization={})
    modelgarden_opt.calibrate(model, form)
    ranges.append([float(q.maximum) for q in calibration.quantizers_of(model)
                   if hasattr(q, 'maximum')])
  assert ranges == [ranges[0]] * len(ranges)


def sequential_of_ones():
  return tf_keras.Sequential([
      layers.InputLayer([16, 16, 3]), layers.Flatten(),
      layers.Dense(1, kernel_initializer='ones')])


def test_an_endless_data_set_calibrates():
  endless = tf.data.Dataset.from_tensors(IMAGES).repeat()
  model = modelgarden_opt.compress(
      sequential(), quantization={'calibration_steps': 2},
      calibration_data=endless)
  assert calibration.is_calibrated(model)


def test_calibration_equalizes_kernels_and_corrects_biases():
  floats = sequential()
  model = modelgarden_opt.compress(
      floats, calibration_data=(IMAGES[i:i + 32] for i in (0, 32)),
      quantization={'cross_layer_equalization': True, 'bias_correction': True,
                    'change_num_bits': True, 'num_bits_weight': 4,
                    'low_bit': 'all'})
  first, second = model.layers[0].kernel.numpy(), model.layers[2].kernel.numpy()
  np.testing.assert_allclose(  # Of channels, flattened for every pixel.
      np.abs(first).max((0, 1, 2)),
      np.abs(second).reshape(-1, 8, 4).max((0, 2)), rtol=0.01)
  error = model(IMAGES).numpy() - floats(IMAGES).numpy()
  assert np.all(np.abs(error.mean(0)) < 0.1 * error.std(0))


class _OfKeras3:
  name = 'other'


_OfKeras3.__module__ = 'keras.src.models.functional'


@pytest.mark.parametrize(('model', 'blocks', 'expected'), [
    (_OfKeras3(), {'quantization': {}}, 'Keras 3.*tf_keras.*TF_USE_LEGACY'),
    (3, {'quantization': {}}, 'expected a tf_keras.Model, received int'),
    (None, {}, 'give one of pruning, clustering, quantization'),
    (None, {'quantisation': {}}, "did you mean 'quantization'"),
    (None, {'pruning': 0.5}, 'pruning: expected a Pruning or a dictionary'),
    (None, {'pruning': {'sparsity': 0.5}}, 'pruning.sparsity: no such field'),
    (None, {'quantization': {'num_bits_weight': 4}},
     'quantization.num_bits_weight: is used only with change_num_bits'),
    (None, {'pruning': {}, 'clustering': {}}, 'must be Preserve with'),
    (None, {'pruning': {'pruning_schedule': 'Preserve'}}, 'there are none'),
    (None, {'quantization': {'rules': [{'path': 'nothing'}]}},
     "'nothing'.*matches no layer"),
    (None, {'quantization': {}, 'calibration_data': IMAGES[:, :8]},
     r'images of shape \[16, 16, 3\].*received \[8, 16, 3\]'),
    (None, {'quantization': {}, 'calibration_data': []}, 'holds no images'),
    (None, {'quantization': {}, 'calibration_data': IMAGES * np.nan},
     'data: holds values that are not finite'),
    (None, {'quantization': {}, 'calibration_data': 'images.npy'},
     'data: expected images, received str'),
])
def test_what_cannot_be_done_is_one_message(model, blocks, expected):
  with pytest.raises(errors.UsageError, match=f'(?s){expected}'):
    modelgarden_opt.compress(sequential() if model is None else model, **blocks)


def test_the_package_imports_no_tensorflow_before_it_is_used():
  script = (
      'import sys, modelgarden_opt\n'
      'assert {"compress", "export", "benchmark"} <= {*dir(modelgarden_opt)}\n'
      'assert not {"tensorflow", "tf_keras"} & {*sys.modules}\n')
  subprocess.run([sys.executable, '-c', script], check=True,
                 cwd=conftest.REPOSITORY)
