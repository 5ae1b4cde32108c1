"""What a block asks for is done, also where variables are on two replicas."""

import contextlib

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling.equalization import preparation
from modelgarden_opt.modeling.equalization import units
from tests import conftest
from tests.modeling.equalization import models

layers = tf_keras.layers
IMAGES = conftest.random_images([16, 8, 8, 3])


def _prepared(scope=contextlib.nullcontext, **fields):
  """Returns a model after what the fields ask for, as its variables."""
  tf_keras.utils.set_random_seed(0)
  block = quantization_cfg.Quantization(**fields)

  def outputs(x):
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))
    return layers.Conv2D(2, 1)(x)

  with scope():
    model = models.functional(outputs, block=block)
    conftest.randomize_norms(model)
    preparation.prepare(model, block)
    models.calibrate(model, IMAGES)
    preparation.correct(model, block, lambda: [(IMAGES, None)])
    return model, [v.numpy() for v in model.variables]


def test_folding_alone_leaves_other_kernels():
  (plain, _), (folded, _) = _prepared(), _prepared(fold_batch_norm=True)
  assert not np.allclose(plain.layers[1].kernel, folded.layers[1].kernel)
  np.testing.assert_array_equal(
      plain.layers[-1].kernel, folded.layers[-1].kernel)


def test_two_replicas_are_prepared_like_one():
  fields = {'cross_layer_equalization': True, 'bias_correction': True}
  _, expected = _prepared(**fields)
  strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
  model, actual = _prepared(strategy.scope, **fields)
  for a, b in zip(actual, expected):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  for variable in model.variables:
    first, second = strategy.experimental_local_results(variable)
    np.testing.assert_array_equal(first, second)
  assert not np.allclose(_prepared()[1][0], actual[0])
  assert all(unit.norm is None or np.allclose(
      unit.norm.gamma**2, unit.norm.moving_variance + unit.norm.epsilon)
             for unit in units.find(model))
