"""Kernels whose channels have equal scales have one scale in the file."""

import numpy as np
import pytest
import tf_keras

from modelgarden_opt.configs import quantization
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling.equalization import rescaling
from modelgarden_opt.modeling.equalization import units
from tests import conftest
from tests.modeling.equalization import models

layers = tf_keras.layers
IMAGES = conftest.random_images([8, 12, 12, 3])


def _file(tmp_path, fold, granularity='per_tensor'):
  """Returns a model, and its file's kernels and outputs."""

  def outputs(x):
    for conv in (layers.Conv2D(8, 3), layers.DepthwiseConv2D(3),
                 layers.Conv2D(12, 1)):
      x = layers.ReLU(6.0)(layers.BatchNormalization()(conv(x)))
    return layers.Conv2D(4, 1)(x)

  model = models.functional(
      outputs, [12, 12, 3],
      quantization.Quantization(weight_granularity=granularity))
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


def test_a_file_of_one_scale_a_kernel_computes_what_keras_computes(tmp_path):
  model, _, actual = _file(tmp_path, fold=True)
  with calibration.quantizer_mode(model, calibration.Mode.QUANTIZE):
    expected = model(IMAGES, training=False).numpy()
  step = np.ptp(expected) / 255
  assert np.mean(np.abs(actual - expected)) < 0.05 * step
  assert np.max(np.abs(actual - expected)) < 1.5 * step
