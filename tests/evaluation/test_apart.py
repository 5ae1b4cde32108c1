"""Files that crash, never end or are damaged are one message each."""

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.evaluation import apart
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.evaluation import model_file


def _convert(function):
  concrete = tf.function(function, input_signature=[
      tf.TensorSpec([1, 4, 4, 3])]).get_concrete_function()
  return tf.lite.TFLiteConverter.from_concrete_functions(
      [concrete]).convert()


@pytest.fixture(scope='module')
def right():
  """A file that adds one."""
  return _convert(lambda x: x + 1.0)


@pytest.fixture(scope='module')
def endless():
  """A file whose loop has no end."""
  return _convert(lambda x: tf.while_loop(
      lambda y: tf.reduce_sum(y) < 1e9, lambda y: [y * 0.5], [x])[0])


def _write(tmp_path, content):
  path = tmp_path / 'm.tflite'
  path.write_bytes(content)
  return str(path)


def test_a_loop_without_an_end_stops_by_limit(
    endless, tmp_path, monkeypatch):
  monkeypatch.setattr(apart, '_TIME_LIMIT', 3.0)
  path = _write(tmp_path, endless)
  with pytest.raises(
      errors.UsageError, match='does not finish a run within 3 seconds'):
    with apart.Model(path) as model:
      model(np.ones((1, 4, 4, 3), np.float32))


def test_a_file_that_crashes_its_process_is_one_message(
    right, tmp_path, monkeypatch):
  (tmp_path / 'crashing.py').write_text(
      'import os, signal\n\nclass Limited:\n'
      '  def __init__(self, path): pass\n'
      '  def shapes(self): os.kill(os.getpid(), signal.SIGSEGV)')
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  monkeypatch.setattr(apart, '__name__', 'crashing')
  with pytest.raises(errors.UsageError, match=r'damaged: .*SIGSEGV'):
    apart.Model(_write(tmp_path, right))


def test_it_gives_what_a_model_in_this_process_gives(right, tmp_path):
  images = np.random.default_rng(0).random((3, 4, 4, 3), np.float32)
  path = _write(tmp_path, right)
  with apart.Model(path) as model:
    assert model.input_shape == model.output_shape == (1, 4, 4, 3)
    np.testing.assert_array_equal(
        model(images), litert_model.Model(path)(images))


def test_a_file_that_cannot_be_loaded_is_one_message(right, tmp_path):
  broken = right.replace(b'\x0c\x00', b'\xff\xff')
  with pytest.raises(errors.UsageError, match='m.tflite'):
    apart.Model(_write(tmp_path, broken))


@pytest.mark.parametrize('read', [model_file.read, inspection.kernels])
@pytest.mark.parametrize('damage', ['cut', 'offset'])
def test_a_damaged_flatbuffer_is_one_message(read, damage, right, tmp_path):
  content = right[:200] if damage == 'cut' else (
      b'\xff\xff\xff\x7f' + right[4:])
  with pytest.raises(errors.UsageError, match='damaged|not a TFLite model'):
    read(_write(tmp_path, content))


def test_size_is_limited_before_parsing(right, tmp_path, monkeypatch):
  monkeypatch.setattr(model_file, 'MAX_BYTES', 100)
  path = _write(tmp_path, right)
  for read in (model_file.read, inspection.kernels, apart.Model):
    with pytest.raises(errors.UsageError, match='more than 100 bytes'):
      read(path)
