"""Random shifts, scales and turns of training images."""

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt.configs import image_classification as cfg
from modelgarden_opt.data import inputs

_LABELS = tf.zeros([8], tf.int32)


def _smooth(height=20, width=24):
  """Images whose values change slowly, so that few samples define them."""
  y, x = np.mgrid[:height, :width] / 10.0
  images = [[np.sin(x + n), np.cos(y - n), np.sin(x + y)] for n in range(8)]
  return tf.constant(np.moveaxis(images, 1, -1), tf.float32)


def _augmented(images, params, seed=3, count=2, **more):
  data = tf.data.Dataset.from_tensors((images, _LABELS)).repeat(count)
  return np.concatenate([moved for moved, _ in inputs.augment(
      data, cfg.RandomAffine(**params), seed, **more).as_numpy_iterator()])


def _draws(count=8, seed=0):
  return tf.constant(
      np.random.default_rng(seed).uniform(-1, 1, [count, 4]), tf.float32)


def test_scaling_and_shifting_alone_is_turning_by_nothing():
  params = cfg.RandomAffine(translate=0.15, scale=0.2)
  # Where 0 comes from outside, one mixes it in over the width of a pixel.
  ones = tf.ones_like(_smooth())
  inside = (inputs._turn(ones, _draws(), params) > 0.9999).numpy()
  assert 0.6 < inside.mean() < 0.99
  expected = inputs._turn(_smooth(), _draws(), params).numpy()
  actual = inputs._resample(_smooth(), _draws(), params).numpy()
  np.testing.assert_allclose(actual[inside], expected[inside], atol=1e-5)
  outside = (inputs._turn(ones, _draws(), params) == 0.0).numpy()
  assert outside.any() and not actual[outside].any()


@pytest.mark.parametrize('moves', [
    {'translate': 0.1}, {'translate': 0.1, 'rotate': 20.0}])
def test_borders_become_black(moves):
  black = inputs._black().numpy()
  images = tf.zeros([8, 20, 20, 3]) + 3.0
  moved = _augmented(images, moves, count=8)
  corners = moved[:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(-1, 3)
  outside = np.abs(corners - black).max(axis=1) < 1e-5
  assert 0.3 < outside.mean() < 1.0
  np.testing.assert_allclose(corners.max(axis=0), 3.0, atol=1e-5)


@pytest.mark.parametrize('dtype', [tf.bfloat16, tf.float16])
def test_half_precision_is_kept(dtype):
  images = tf.cast(_smooth(), dtype)
  for moves in ({'translate': 0.1}, {'rotate': 20.0}):
    moved = _augmented(images, moves)
    assert moved.dtype == dtype.as_numpy_dtype
    np.testing.assert_allclose(
        moved.astype(np.float32), _augmented(_smooth(), moves), atol=0.05)


def test_every_image_and_batch_is_moved_otherwise():
  images = tf.tile(_smooth()[:1], [8, 1, 1, 1])
  moved = _augmented(images, {'translate': 0.1, 'scale': 0.1})
  assert len({image.tobytes() for image in moved}) == 16
  np.testing.assert_array_equal(
      _augmented(images, {'translate': 0.1, 'scale': 0.1}), moved)


@pytest.mark.parametrize('pipelines, replicas', [
    (1, 1), (1, 2), (2, 2), (2, 4)])
def test_the_parts_of_a_batch_are_moved_as_the_whole(pipelines, replicas):
  """Pipeline i of n reads the records i, i + n, ..."""
  whole = _augmented(_smooth(), {'rotate': 9.0, 'translate': 0.1}, count=3)
  found = np.zeros_like(whole)
  numbers = np.arange(len(whole))
  images = np.tile(_smooth(), [3, 1, 1, 1])
  for pipeline in range(pipelines):
    mine = numbers[pipeline::pipelines]
    context = tf.distribute.InputContext(pipelines, pipeline, replicas)
    data = tf.data.Dataset.from_tensor_slices(
        (images[mine], np.zeros(len(mine)))).batch(8 // replicas)
    found[mine] = np.concatenate([moved for moved, _ in inputs.augment(
        data, cfg.RandomAffine(rotate=9.0, translate=0.1), 3,
        input_context=context).as_numpy_iterator()])
  np.testing.assert_array_equal(found, whole)


def test_an_image_of_one_pixel_is_not_lost():
  images = tf.ones([8, 1, 1, 3])
  assert np.isfinite(_augmented(images, {'scale': 0.1})).all()
