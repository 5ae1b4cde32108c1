"""Saved models of strangers are loaded, or refused before they run code."""

import json
import os
import sys
import time
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import isolated
from modelgarden_opt import user_modules
from modelgarden_opt.modeling import hdf5
from modelgarden_opt.modeling import saved_models

_KINDS = ('m.keras', 'm.h5', 'saved')


def _model(*extra):
  inputs = tf_keras.Input([8, 8, 3])
  x = tf_keras.layers.Conv2D(4, 3, activation='relu', name='conv')(inputs)
  for layer in extra:
    x = layer(x)
  x = tf.nn.relu6(x * 2.0 + 1.0)
  x = tf.reshape(x, [-1, 36 * 4])[:, :100]
  return tf_keras.Model(inputs, tf_keras.layers.Dense(5)(x))


def _save(model, tmp_path, kind):
  path = str(tmp_path / kind)
  model.save(path)
  return path


def _rewrite(path, change):
  """Changes the configuration in a `.keras` file."""
  with zipfile.ZipFile(path) as archive:
    content = {name: archive.read(name) for name in archive.namelist()}
  config = json.loads(content['config.json'])
  change(config)
  content['config.json'] = json.dumps(config).encode()
  with zipfile.ZipFile(path, 'w') as archive:
    for name, data in content.items():
      archive.writestr(name, data)


def _layer(config, name):
  return next(layer for layer in config['config']['layers']
              if layer['name'] == name)


@pytest.mark.parametrize('kind', _KINDS)
def test_models_that_only_compute_are_loaded(kind, tmp_path):
  model = _model()
  loaded = saved_models.load(_save(model, tmp_path, kind), 'path')
  images = np.random.default_rng(0).normal(size=[2, 8, 8, 3])
  np.testing.assert_allclose(model(images), loaded(images), atol=1e-6)


@pytest.mark.parametrize('kind', _KINDS)
def test_a_lambda_is_named_and_runs_only_if_the_user_says_so(kind, tmp_path):
  model = _model(tf_keras.layers.Lambda(lambda x: x + 1.0, name='plus_one'))
  path = _save(model, tmp_path, kind)
  with pytest.raises(errors.UsageError) as error:
    saved_models.load(path, 'path')
  message = str(error.value)
  assert "layer 'plus_one' is a Lambda" in message and path in message
  assert 'safe_mode: false' in message and '\n' not in message
  images = np.ones([1, 8, 8, 3], np.float32)
  loaded = saved_models.load(path, 'path', safe_mode=False)
  np.testing.assert_allclose(model(images), loaded(images), atol=1e-6)


def _activation(module, name):
  def change(config):
    _layer(config, 'conv')['config']['activation'] = {
        'module': module, 'class_name': 'function', 'config': name,
        'registered_name': name}
  return change


def _calls(op):
  def change(config):
    layer = next(layer for layer in config['config']['layers']
                 if layer['class_name'] == 'TFOpLambda')
    layer['config']['function'] = op
  return change


def _spec(config):
  _layer(config, 'conv')['config']['extra'] = {
      'class_name': '__typespec__', 'module': 'modelgarden_opt.files',
      'spec_name': 'write_atomically', 'registered_name': None,
      'config': ['x', 'y']}


@pytest.mark.parametrize('change, expected', [
    (_activation('os', 'system'), "'conv' needs 'system' of the module 'os'"),
    (_activation('builtins', 'eval'), "needs 'eval' of the module 'builtins'"),
    (_activation('numpy', 'save'), "needs 'save' of the module 'numpy'"),
    (_calls('io.write_file'), 'calls tf.io.write_file'),
    (_calls('py_function'), 'calls tf.py_function'),
    (_calls('raw_ops.WriteFile'), 'calls tf.raw_ops.WriteFile'),
    (_spec, "needs 'write_atomically' of 'modelgarden_opt.files'")])
def test_a_configuration_that_names_other_code_is_refused(
    change, expected, tmp_path):
  path = _save(_model(), tmp_path, 'm.keras')
  _rewrite(path, change)
  with pytest.raises(errors.UsageError, match=expected):
    saved_models.load(path, 'path')


def test_a_graph_that_writes_files_is_refused(tmp_path):

  class Writes(tf_keras.layers.Layer):  # Its call is in the graph.
    def call(self, inputs):
      tf.io.write_file(str(tmp_path / 'written'), 'x')
      return inputs

  path = _save(_model(Writes()), tmp_path, 'saved')
  (tmp_path / 'written').unlink(missing_ok=True)
  with pytest.raises(errors.UsageError, match='has the op WriteFile'):
    saved_models.load(path, 'path')
  assert not (tmp_path / 'written').exists()


def test_an_archive_that_grows_is_refused(tmp_path, monkeypatch):
  path = _save(_model(), tmp_path, 'm.keras')
  with zipfile.ZipFile(path, 'a', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('assets/zeros', bytes(2**22))
  monkeypatch.setattr(saved_models, '_MAX_BYTES', 2**21)
  with pytest.raises(errors.UsageError, match='at most 2,097,152'):
    saved_models.load(path, 'path')


def test_what_a_run_keeps_of_a_model_is_checked_too(tmp_path):
  config = tf_keras.saving.serialize_keras_object(_model(
      tf_keras.layers.Lambda(lambda x: x + 1.0, name='plus_one')))
  with pytest.raises(errors.UsageError, match="'plus_one' is a Lambda"):
    saved_models.from_config(config, 'keras_model.json', 'path')


def test_classes_of_modules_that_are_imported_may_be_named(
    tmp_path, monkeypatch):
  (tmp_path / 'my_own.py').write_text('class Mine:\n  pass\n')
  monkeypatch.syspath_prepend(str(tmp_path))
  config = {'class_name': 'Mine', 'module': 'my_own', 'config': {'name': 'm'}}

  def problems():
    return [*saved_models.problems({'layers': [config]}, {})]

  assert problems() == ["layer 'm' needs 'Mine' of the module 'my_own'"]
  assert 'my_own' not in sys.modules
  monkeypatch.setattr(user_modules, 'named_by_flag', ['my_own'])
  assert not problems()
  monkeypatch.setattr(user_modules, 'named_by_flag', [])
  monkeypatch.setitem(
      sys.modules, 'my_own', user_modules.load_one('my_own', 'import'))
  assert not problems()


class _Endless:
  """Stands for HDF5 code that damage sent into a loop."""

  def read(self, path):
    while path:
      time.sleep(1)


class _Crashing:

  def read(self, path):
    os.abort()


@pytest.mark.parametrize('walk, message', [
    (_Endless, 'does not end reading it'), (_Crashing, 'crashes on it')])
@pytest.mark.parametrize('kind', ['m.keras', 'm.h5'])
def test_what_hangs_or_crashes_hdf5_is_refused_in_time(
    kind, walk, message, tmp_path, monkeypatch):
  path = _save(_model(), tmp_path, kind)
  made = isolated.Object
  monkeypatch.setattr(isolated, 'Object', lambda target, **kwargs: made(
      f'{__name__}:{walk.__name__}', **kwargs))
  assert_ends = hdf5.assert_ends
  monkeypatch.setattr(hdf5, 'assert_ends', lambda path, field: assert_ends(
      path, field, time_limit=1.0))
  with pytest.raises(errors.UsageError, match=f'path: .*{kind}.*{message}'):
    saved_models.load(path, 'path')


@pytest.mark.parametrize('kind', ['m.keras', 'm.h5'])
def test_every_array_of_a_file_is_read_first(kind, tmp_path, monkeypatch):
  path, found = _save(_model(), tmp_path, kind), set()
  read = h5py.Dataset.__getitem__

  def remember(dataset, key):
    found.add(dataset.shape)
    return read(dataset, key)
  monkeypatch.setattr(h5py.Dataset, '__getitem__', remember)
  hdf5.Walk().read(path)
  assert {(3, 3, 3, 4), (100, 5)} <= found
