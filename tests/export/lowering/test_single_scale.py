"""Kernels whose channels have equal scales have one scale in the file."""

import numpy as np
import pytest
import tf_keras

from modelgarden_opt.configs import quantization
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.export.lowering import single_scale
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling.equalization import rescaling
from modelgarden_opt.modeling.equalization import units
from tests import conftest
from tests.modeling.equalization import models

layers = tf_keras.layers
IMAGES = conftest.random_images([8, 12, 12, 3])


def _file(tmp_path, fold, granularity='per_tensor', **fields):
  """Returns a model, and its file's kernels and outputs."""

  def outputs(x):
    for conv in (layers.Conv2D(8, 3), layers.DepthwiseConv2D(3),
                 layers.Conv2D(12, 1)):
      x = layers.ReLU(6.0)(layers.BatchNormalization()(conv(x)))
    return layers.Conv2D(4, 1)(x)

  model = models.functional(
      outputs, [12, 12, 3],
      quantization.Quantization(weight_granularity=granularity, **fields))
  conftest.randomize_norms(model)
  if fold:
    rescaling.fold_batch_norm(units.find(model))
  models.calibrate(model, IMAGES)
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(model, 'int8'))
  return (model, inspection.kernels(str(path)),
          litert_model.Model(str(path))(IMAGES))


@pytest.mark.parametrize('fold,granularity,expected', [
    (False, 'per_tensor', [8, 8, 12, 1]),
    (True, 'per_tensor', [1, 1, 1, 1]),
    (True, 'per_channel', [8, 8, 12, 4])])
def test_scales_of_kernels(fold, granularity, expected, tmp_path):
  _, kernels, _ = _file(tmp_path, fold, granularity)
  assert [kernel.num_scales for kernel in kernels] == expected
  assert kernels[0].record()['num_scales'] == expected[0]


_FOUR_BITS = {'change_num_bits': True, 'num_bits_weight': 4, 'low_bit': 'all'}


@pytest.mark.parametrize('fold,expected', [
    (False, [8, 8, 12, 4]), (True, [1, 1, 1, 1])])
def test_scales_of_kernels_of_4_bits(fold, expected, tmp_path):
  granularity = 'per_tensor' if fold else 'per_channel'
  _, kernels, _ = _file(tmp_path, fold, granularity, **_FOUR_BITS)
  assert [kernel.dtype for kernel in kernels] == ['int8'] + 3 * ['int4']
  assert [kernel.num_scales for kernel in kernels] == expected


def test_a_file_of_4_bits_computes_what_it_computes_with_equal_scales(
    tmp_path, monkeypatch):
  _, _, actual = _file(tmp_path, fold=True, **_FOUR_BITS)
  tf_keras.utils.set_random_seed(0)  # As before this test.
  monkeypatch.setattr(single_scale, 'merge', lambda model: None)
  _, kernels, expected = _file(tmp_path, fold=True, **_FOUR_BITS)
  assert [kernel.num_scales for kernel in kernels] == [8, 8, 12, 4]
  np.testing.assert_array_equal(actual, expected)


def test_a_file_of_one_scale_a_kernel_computes_what_keras_computes(tmp_path):
  model, _, actual = _file(tmp_path, fold=True)
  with calibration.quantizer_mode(model, calibration.Mode.QUANTIZE):
    expected = model(IMAGES, training=False).numpy()
  step = np.ptp(expected) / 255
  assert np.mean(np.abs(actual - expected)) < 0.05 * step
  assert np.max(np.abs(actual - expected)) < 1.5 * step
