"""Statistics of batch normalization that are taken from given images."""

import numpy as np
import tf_keras

from modelgarden_opt.modeling import batch_norm


def test_statistics_of_one_batch_are_adopted_and_momentum_stays():
  norm = tf_keras.layers.BatchNormalization(momentum=0.9)
  model = tf_keras.Sequential([tf_keras.layers.InputLayer((4, 4, 3)), norm])
  images = np.random.default_rng(0).normal(
      2.0, 3.0, [8, 4, 4, 3]).astype(np.float32)
  batch_norm.adopt(model, images)
  np.testing.assert_allclose(
      norm.moving_mean, images.mean((0, 1, 2)), rtol=1e-4)
  # The fused op keeps the unbiased variance.
  np.testing.assert_allclose(
      norm.moving_variance, images.reshape(-1, 3).var(0, ddof=1), rtol=1e-4)
  assert norm.momentum == 0.9
