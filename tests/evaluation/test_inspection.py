"""What is read from a file is what was written into it."""

import numpy as np
import pytest
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.export import convert


def _model(kernel):
  model = tf_keras.Sequential([
      tf_keras.layers.Conv2D(16, 3, input_shape=[8, 8, 16], use_bias=False)])
  model.layers[0].kernel.assign(kernel)
  return model


@pytest.fixture(scope='module')
def kernel():
  """A kernel of 16 values that are 2:4 sparse along input channels."""
  rng = np.random.default_rng(0)
  values = rng.choice(np.linspace(0.1, 1.0, 8), [3, 3, 16, 16])
  values *= rng.choice([-1.0, 1.0], values.shape)
  keep = np.zeros([3, 3, 4, 4, 16], bool)
  keep[:, :, :, :2] = True
  return (values * keep.reshape(values.shape)).astype(np.float32)


@pytest.mark.parametrize('sparse', [False, True])
@pytest.mark.parametrize('file_format', ['float32', 'float16'])
def test_kernels_are_read_back(kernel, tmp_path, sparse, file_format):
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(_model(kernel), file_format, sparse=sparse))
  found, = inspection.kernels(str(path))
  np.testing.assert_allclose(
      found.values, kernel.transpose(3, 0, 1, 2), rtol=1e-3)
  assert found.dtype == file_format and found.stored_sparse == sparse
  assert found.sparsity == 0.5 and found.m_by_n == (2, 4)
  assert found.distinct == 17 and found.distinct_per_channel <= 17


def test_inspect_prints_any_file(kernel, tmp_path, capsys):
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(_model(kernel), 'float32'))
  assert main.main(['inspect', f'--tflite={path}']) == 0
  out = capsys.readouterr().out
  assert '16x3x3x16' in out and '50.00%' in out and '2:4' in out
  assert '1 CONV_2D' in out


@pytest.mark.parametrize('file_format', ['dynamic_int8', 'int8', 'int16x8'])
def test_sparse_files_that_cannot_be_loaded_are_refused(kernel, file_format):
  with pytest.raises(errors.UsageError, match='cannot load'):
    convert.convert(_model(kernel), file_format, sparse=True)


def test_what_is_no_file_is_told(tmp_path):
  with pytest.raises(errors.UsageError, match='there is no file'):
    inspection.kernels(str(tmp_path / 'm.tflite'))
  (tmp_path / 'm.tflite').write_bytes(b'no flatbuffer at all')
  with pytest.raises(errors.UsageError, match='is not a TFLite model'):
    inspection.kernels(str(tmp_path / 'm.tflite'))
