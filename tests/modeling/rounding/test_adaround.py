"""AdaRound against brute force, and the moments that it reads."""

import itertools

import numpy as np

from modelgarden_opt.modeling.rounding import adaround


def _problem(inputs, outputs, seed, groups=1, noise=0.0):
  """Returns weights, step, and moments of correlated inputs."""
  rng = np.random.default_rng(seed)
  mix = rng.normal(size=[groups, inputs, inputs])
  x = rng.normal(size=[groups, 400, inputs]) @ mix + 0.5
  quantized = x + noise * rng.normal(size=x.shape)
  weights = rng.normal(size=[groups, inputs, outputs])
  step = np.abs(weights).max(axis=1, keepdims=True) / 7.0
  transposed = quantized.transpose([0, 2, 1])
  return weights, step, transposed @ quantized, transposed @ x, quantized, x


def _loss(integers, step, quantized, x, weights):
  return np.mean((x @ weights - quantized @ (integers * step))**2, axis=1)


def test_most_of_what_rounding_to_nearest_loses_is_won():
  """Of 256 roundings of each column, all of which are tried here."""
  lost = left = 0.0
  for seed in range(3):
    weights, step, both, cross, quantized, x = _problem(8, 4, seed)
    down = np.floor(weights / step)
    choices = np.array(list(itertools.product([0.0, 1.0], repeat=8)))
    best = np.min([
        _loss(np.clip(down + choice[:, np.newaxis], -7, 7), step, quantized, x,
              weights)[0] for choice in choices], axis=0)
    nearest = _loss(np.round(weights / step), step, quantized, x, weights)[0]
    found = adaround.round_weights(weights, step, 7.0, both, cross)
    reached = _loss(found, step, quantized, x, weights)[0]
    lost, left = lost + np.sum(nearest - best), left + np.sum(reached - best)
  assert left < 0.5 * lost


def test_no_column_is_worse_than_rounded_to_nearest():
  weights, step, both, cross, quantized, x = _problem(12, 30, 4, groups=2)
  found = adaround.round_weights(
      weights, step, 7.0, both, cross, adaround.Settings(steps=3))
  nearest = np.round(weights / step)
  assert np.all(_loss(found, step, quantized, x, weights) <= _loss(
      nearest, step, quantized, x, weights) + 1e-9)


def test_weights_are_rounded_to_a_neighbour_and_the_grid_stays():
  weights, step, both, cross, _, _ = _problem(16, 8, 5)
  scaled = weights / step
  scaled[0, :4] = [[0.0], [3.0], [-7.0], [0.0]]
  found = adaround.round_weights(scaled * step, step, 7.0, both, cross)
  np.testing.assert_array_equal(found[0, :4], scaled[0, :4])
  assert np.all(np.abs(found - scaled) < 1.0)
  assert np.abs(found).max() <= 7.0
  assert np.any(found != np.round(scaled))


def test_errors_of_the_inputs_are_made_good():
  """The target is what the float layer computes from float inputs."""
  weights, step, both, cross, quantized, x = _problem(24, 6, 6, noise=0.5)
  found = adaround.round_weights(weights, step, 7.0, both, cross)
  blind = adaround.round_weights(weights, step, 7.0, both, both)
  assert np.mean(_loss(found, step, quantized, x, weights)) < np.mean(
      _loss(blind, step, quantized, x, weights))


def test_values_beyond_the_range_are_clipped():
  weights, step, both, cross, _, _ = _problem(6, 3, 7)
  found = adaround.round_weights(weights, step * 0.5, 7.0, both, cross)
  assert np.abs(found).max() == 7.0


def test_dead_inputs_do_no_harm():
  weights, step, both, cross, _, _ = _problem(6, 3, 8)
  for moments in (both, cross):
    moments[:, 2], moments[:, :, 2] = 0.0, 0.0
  found = adaround.round_weights(weights, step, 7.0, both, cross)
  assert np.all(np.isfinite(found))
  zeros = np.zeros_like(both)
  np.testing.assert_array_equal(
      adaround.round_weights(weights, step, 7.0, zeros, zeros),
      np.round(weights / step))
