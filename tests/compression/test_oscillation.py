"""Oscillating weights, against the definitions of arXiv:2203.11086."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression.quantization import kernel_quantizer
from modelgarden_opt.compression.quantization import oscillation

# Of the grid of a 4-bit kernel whose range is 7: a step is 1.
STEP = 1.0


class _Leaf(tf_keras.layers.Dense):
  """A layer that trains on its quantized kernel."""

  quantizer = None

  def call(self, inputs, training=True):
    return inputs @ self.quantizer(
        tf.convert_to_tensor(self.kernel), training)


def _layer(method, weight_range='mse', **settings):
  """Returns a dense layer of four weights and its quantizer."""
  layer = _Leaf(4)
  layer.build([None, 1])
  quantizer = kernel_quantizer.KernelQuantizer(
      4, False, weight_range=weight_range, oscillation=oscillation.Settings(
          method, **{'momentum': 0.1, 'dampening_weight': 0.5,
                     'dampening_end_step': 4, 'freezing_threshold': 0.25,
                     **settings}))
  quantizer.build(layer, layer.kernel)
  layer.quantizer = quantizer
  quantizer.limit.assign(7.0 * STEP)
  return layer, quantizer


def _train(layer, quantizer, values):
  """What an optimizer makes of the kernel, step by step; returns what is left.
  """
  kernels = []
  for value in values:
    layer.kernel.assign([value])
    quantizer.apply(layer.kernel)
    kernels.append(layer.kernel.numpy()[0])
  return np.stack(kernels)


def _begin(layer, quantizer, value):
  layer.kernel.assign([value])
  limit = quantizer.limit.numpy()
  quantizer.start(layer.kernel)
  quantizer.limit.assign(limit)
  quantizer.oscillation.start(np.round([value]).astype(np.float32))


# Oscillates between 1 and 2; drifts; rests; oscillates within an integer.
_OSCILLATING = [1.4, 1.6, 1.4, 1.6, 1.4, 1.4, 1.6, 1.4]
_VALUES = np.array([
    [value, 0.3 + i, 3.0, -2.0 + 0.3 * (-1)**i]
    for i, value in enumerate(_OSCILLATING)], np.float32)


def _expected_frequencies(values, momentum):
  """The definition, weight by weight."""
  columns = []
  for column in np.round(values).T:
    frequency, last, found = 0.0, 0.0, []
    for before, now in zip(column, column[1:]):
      change = np.sign(now - before)
      oscillates = change != 0 and change == -last
      frequency = momentum * oscillates + (1 - momentum) * frequency
      last = change or last
      found.append(frequency)
    columns.append(found)
  return np.array(columns).T


def test_frequencies_are_those_of_the_definition():
  layer, quantizer = _layer('dampen')
  _begin(layer, quantizer, _VALUES[0])
  for value, expected in zip(
      _VALUES[1:], _expected_frequencies(_VALUES, 0.1)):
    kernel = _train(layer, quantizer, [value])
    np.testing.assert_allclose(
        quantizer.oscillation.frequency.numpy()[0], expected, atol=1e-6)
    np.testing.assert_array_equal(kernel[0], value)
  assert expected[0] > 0.25 and np.all(expected[1:] == 0.0)


def test_an_oscillating_weight_is_frozen_to_its_most_frequent_integer():
  layer, quantizer = _layer('freeze')
  _begin(layer, quantizer, _VALUES[0])
  kernels = _train(layer, quantizer, _VALUES[1:])
  frequencies = _expected_frequencies(_VALUES, 0.1)[:, 0]
  first = int(np.argmax(frequencies > 0.25))
  assert 1 < first < len(kernels) - 2
  np.testing.assert_array_equal(kernels[:first], _VALUES[1:first + 1])
  # 1 was its integer more often and lately.
  np.testing.assert_array_equal(kernels[first:, 0], 1.0)
  np.testing.assert_array_equal(kernels[:, 1:], _VALUES[1:, 1:])
  # Whatever an optimizer does to it later, it stays frozen.
  later = _train(layer, quantizer, [[5.0, 0.0, 3.0, -2.0]] * 50)
  np.testing.assert_array_equal(later[:, 0], 1.0)
  assert quantizer.summaries(layer.kernel) == {
      'oscillating': 0.0, 'frozen': 0.25, 'clipped': 0.0}


def test_frozen_are_integers_that_follow_the_step():
  layer, quantizer = _layer('freeze', 'learned')
  _begin(layer, quantizer, _VALUES[0])
  _train(layer, quantizer, _VALUES[1:])
  quantizer.limit.assign(3.5)
  kernel = _train(layer, quantizer, [[1.2, 1.0, 1.0, 1.0]])[0]
  np.testing.assert_allclose(kernel, [0.5, 1.0, 1.0, 1.0])


def test_a_frozen_weight_that_is_pruned_stays_zero():
  layer, quantizer = _layer('freeze')
  _begin(layer, quantizer, _VALUES[0])
  _train(layer, quantizer, _VALUES[1:])
  kernel = _train(layer, quantizer, [[0.0, 1.0, 3.0, -2.0]])[0]
  assert kernel[0] == 0.0


def test_training_starts_with_nothing_frozen():
  layer, quantizer = _layer('freeze')
  _begin(layer, quantizer, _VALUES[0])
  _train(layer, quantizer, _VALUES[1:])
  _begin(layer, quantizer, _VALUES[0])
  state = quantizer.oscillation
  assert not np.any(state.frozen()) and not np.any(state.direction)
  np.testing.assert_array_equal(state.integers, np.round(_VALUES[:1]))
  np.testing.assert_array_equal(state.average, np.round(_VALUES[:1]))


@pytest.mark.parametrize(('steps', 'share'), [
    (0, 0.0), (1, 0.5 * (1 - np.cos(np.pi / 4))), (2, 0.5), (4, 1.0),
    (9, 1.0)])
def test_dampening_has_the_gradient_of_its_loss(steps, share):
  layer, quantizer = _layer('dampen', 'learned')
  value = np.array([1.4, -0.3, 8.0, 3.0], np.float32)
  _begin(layer, quantizer, value)
  quantizer.oscillation.num_steps.assign(steps)
  with tf.GradientTape(persistent=True) as tape:
    result = layer(tf.ones([1, 1]))
    loss = tf.add_n(layer.losses)
  expected = 0.5 * share * np.sum((np.clip(value, -7, 7) - result[0])**2)
  assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-7)
  gradient = tape.gradient(loss, layer.kernel).numpy()[0]
  inside = np.abs(value) <= 7.0
  np.testing.assert_allclose(
      gradient, 0.5 * share * 2.0 * (value - np.round(value)) * inside,
      rtol=1e-5, atol=1e-7)
  assert tape.gradient(loss, quantizer.limit) is None


def test_inference_adds_no_loss():
  layer, quantizer = _layer('dampen')
  quantizer.oscillation.num_steps.assign(4)
  layer(tf.ones([1, 1]), training=False)
  assert not layer.losses
