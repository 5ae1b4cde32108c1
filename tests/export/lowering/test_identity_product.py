"""The files of hard-swish without its product by 1/6 compute the same."""

import numpy as np
from official.modeling import activations as official
import pytest
import tf_keras

from modelgarden_opt.configs import quantization
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.export.lowering import flatbuffer
from modelgarden_opt.export.lowering import identity_product
from tests import conftest
from tests.modeling.equalization import models

layers = tf_keras.layers
IMAGES = conftest.random_images([32, 12, 12, 3])


def _hard_swish(x):
  return layers.Activation(official.hard_swish)(x)


def _gated(x):
  """hard-swish before a convolution, and a gate of squeeze and excite."""
  x = _hard_swish(layers.Conv2D(8, 3)(x))
  x = _hard_swish(layers.DepthwiseConv2D(3)(x))
  gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
  gate = layers.Conv2D(8, 1)(layers.ReLU()(layers.Conv2D(4, 1)(gate)))
  gate = layers.Activation(official.hard_sigmoid)(gate)
  x = layers.Conv2D(4, 1)(layers.Multiply()([x, gate]))
  return layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


def _joined(x):
  """What an addition reads cannot be six times as large."""
  x = _hard_swish(layers.Conv2D(8, 1)(x))
  return layers.Conv2D(4, 1)(layers.Add()([x, layers.Conv2D(8, 1)(x)]))


def _ending(x):
  """Neither can what leaves the model."""
  return _hard_swish(layers.Conv2D(8, 1)(x))


def _files(function, tmp_path, monkeypatch):
  """Returns the files of a model without and with the pass."""
  model = models.functional(
      function, [12, 12, 3], quantization.Quantization())
  models.calibrate(model, IMAGES)
  found = []
  for remove in (lambda model: None, identity_product.remove):
    with monkeypatch.context() as patch:
      patch.setattr(identity_product, 'remove', remove)
      path = tmp_path / f'{len(found)}.tflite'
      path.write_bytes(convert.convert(model, 'int8'))
      found.append(str(path))
  return found


def _products(path):
  return census.take(path).ops['MUL']


@pytest.mark.parametrize('function,before,after', [
    (_gated, 3 + 3, 3), (_joined, 2, 2), (_ending, 2, 2)])
def test_removed_where_all_readers_allow_it(
    function, before, after, tmp_path, monkeypatch):
  plain, lowered = _files(function, tmp_path, monkeypatch)
  assert (_products(plain), _products(lowered)) == (before, after)
  np.testing.assert_array_equal(
      litert_model.Model(lowered)(IMAGES), litert_model.Model(plain)(IMAGES))


def test_kernels_undo_what_tensors_are_larger(tmp_path, monkeypatch):
  """Before the last kernel there is a gate, six times as large, of six."""
  before, after = (
      _steps(path) for path in _files(_gated, tmp_path, monkeypatch))
  ratios = {round(float(ratio), 3) for name in before if name in after
            for ratio in after[name] / before[name]}
  assert ratios == {36.0, 6.0, 1.0, 0.167, 0.028}


def _tensors(path):
  with open(path, 'rb') as f:
    model = flatbuffer.Model.InitFromPackedBuf(f.read())
  return model.subgraphs[0].tensors


def _steps(path):
  return {tensor.name: np.asarray(tensor.quantization.scale)
          for tensor in _tensors(path)
          if tensor.quantization is not None and
          tensor.quantization.scale is not None}


def test_unused_tensors_leave_the_file(tmp_path, monkeypatch):
  before, after = (
      _tensors(path) for path in _files(_gated, tmp_path, monkeypatch))
  assert len(after) == len(before) - 4  # Three products, one constant.
