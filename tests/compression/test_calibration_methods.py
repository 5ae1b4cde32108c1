"""Every calibration method finds what its definition says, on raw values."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression.quantization import histogram
from modelgarden_opt.compression.quantization import observers
from modelgarden_opt.compression.quantization import quantizers
from modelgarden_opt.compression.quantization import range_search
from modelgarden_opt.configs import overrides
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory
from tests import conftest

RNG = np.random.default_rng(0)
# Batches of which each exceeds the range of those before; a long tail.
TWO_SIDED = [RNG.standard_t(4, [8, 50, 10]).astype(np.float32) * scale
             for scale in (0.3, 1.0, 2.0)]
AFTER_RELU = [np.maximum(batch, 0.0) for batch in TWO_SIDED]
BOTH = pytest.mark.parametrize(
    ('batches', 'known'), [(TWO_SIDED, {}), (AFTER_RELU, {'lower': 0.0})],
    ids=['two_sided', 'after_relu'])


def _built(method, num_bits=8, **options):
  quantizer = quantizers.ActivationQuantizer(
      num_bits, calibration_method=method, **options)
  quantizer.build(tf_keras.layers.Layer(), 'output')
  return quantizer


def _range(quantizer, batches):
  """Calibrates a quantizer; every batch comes in two parts."""
  quantizer.start_calibration()
  quantizer.mode = quantizers.Mode.CALIBRATE
  for batch in batches:
    for part in np.array_split(batch, 2):
      output = quantizer(tf.constant(part), training=False)
      np.testing.assert_array_equal(output, part)
    quantizer.end_batch()
  quantizer.end_calibration()
  return float(quantizer.minimum), float(quantizer.maximum)


def _values(batches):
  return np.concatenate([batch.ravel() for batch in batches])


@BOTH
def test_moving_average_is_the_mean_of_the_extremes_of_whole_batches(
    batches, known):
  expected = (np.mean([batch.min() for batch in batches]),
              np.mean([batch.max() for batch in batches]))
  assert _range(_built('moving_average', **known), batches) == pytest.approx(
      expected, rel=1e-5)


@BOTH
def test_min_max_covers_everything(batches, known):
  values = _values(batches)
  assert _range(_built('min_max', **known), batches) == (
      values.min(), values.max())


@BOTH
@pytest.mark.parametrize('percent', [90.0, 99.0, 99.9, 100.0])
def test_percentile_is_that_of_all_values_to_a_bin(batches, known, percent):
  values = _values(batches)
  found = _range(_built('percentile', percentile=percent, **known), batches)
  low, high = np.percentile(
      values, [100.0 - percent, percent], method='inverted_cdf')
  bin_width = 2 * float(np.abs(values).max()) / 4096
  assert found[1] == pytest.approx(high, abs=bin_width)
  assert found[0] == pytest.approx(known.get('lower', low), abs=bin_width)
  if percent == 100.0:
    assert found == (known.get('lower', values.min()), values.max())


def _squared_error(values, low, high, num_bits):
  rounded = tf.quantization.fake_quant_with_min_max_args(
      values, float(low), float(high), num_bits).numpy()
  return np.sum((rounded.astype(np.float64) - values)**2)


def _divergence(values, low, high, num_bits):
  """The published definition, value by value instead of bin by bin."""
  levels = 2**num_bits - 1
  step = (high - low) / levels
  low = -np.round(-low / step) * step
  high = low + levels * step
  width = 2.0**np.ceil(np.log2(np.abs(values).max() / 4096))
  bins = np.floor(values[values != 0] / width)
  centers = (bins + 0.5) * width
  kept = (centers >= low) & (centers <= high)
  unique, inverse = np.unique(
      np.clip(bins, bins[kept].min(), bins[kept].max()), return_inverse=True)
  reference = np.bincount(inverse).astype(float)
  mass = np.bincount(inverse, kept)
  level = np.round(((unique + 0.5) * width - low) / step)
  quantized = np.array([mass[level == own].mean() for own in level])
  reference /= reference.sum()
  quantized /= quantized.sum()
  return np.sum(reference * np.log(reference / quantized))


@BOTH
@pytest.mark.parametrize('num_bits', [4, 8])
@pytest.mark.parametrize(('method', 'definition', 'excess'), [
    ('mse', _squared_error, 1.01), ('entropy', _divergence, 1.02)])
def test_no_range_of_a_grid_is_better(
    batches, known, num_bits, method, definition, excess):
  """Also not if both ends move at once."""
  values = _values(batches)
  found = _range(_built(method, num_bits, **known), batches)
  fractions = np.geomspace(1.0, 1.0 / 32.0, 13)
  lows = [0.0] if known else values.min() * fractions
  least = min(definition(values, low, high, num_bits)
              for low in lows for high in values.max() * fractions)
  assert definition(values, *found, num_bits) <= excess * least
  # Outliers are clipped where steps are coarse.
  if num_bits == 4:
    assert found[1] < 0.8 * values.max()


@pytest.mark.parametrize('ends', [(-1.0, 2.0), (0.0, 6.0), (-0.37, 5.0)])
def test_losses_are_those_of_their_definitions(ends):
  values = _values(TWO_SIDED)
  found = histogram.Histogram()
  found.add(values)
  centers, counts = found.filled()
  for loss, definition in ((range_search.squared_error, _squared_error),
                           (range_search.divergence, _divergence)):
    assert loss(centers, counts, *ends, 4) == pytest.approx(
        definition(values, *ends, 4), rel=0.01)


def test_a_histogram_does_not_depend_on_the_order_of_what_it_grew_with():
  values = np.append(_values(TWO_SIDED), np.zeros(17, np.float32))
  whole, parts = histogram.Histogram(), histogram.Histogram()
  whole.add(values)
  for part in np.array_split(values[np.argsort(np.abs(values))], 7):
    parts.add(part)
  assert parts.width == whole.width == 2.0**np.ceil(
      np.log2(np.abs(values).max() / 4096))
  assert whole.num_zeros == np.sum(values == 0)
  centers, counts = whole.filled()
  expected = np.unique(np.floor(values[values != 0] / whole.width),
                       return_counts=True)
  np.testing.assert_array_equal(centers / whole.width - 0.5, expected[0])
  np.testing.assert_array_equal(counts, expected[1])


@pytest.mark.parametrize('method', observers.METHODS)
def test_every_method_takes_what_layers_may_compute(method):
  zeros = np.zeros([2, 3], np.float32)
  low, high = _range(_built(method), [zeros, zeros])
  assert (low, high) == (0.0, 1.0), 'runtimes refuse a scale next to zero'
  low, high = _range(_built(method), [zeros, zeros - 2.0])
  assert -2.0 <= low < 0.0 < high < 1e-5, 'all values are negative'
  relu6 = np.minimum(AFTER_RELU[2], 6.0)
  low, high = _range(_built(method, lower=0.0), [zeros, relu6])
  assert low == 0.0 and 0.0 < high <= 6.0
  assert _range(_built(method, lower=-0.381, at_least=0.05), [zeros])[1] == (
      pytest.approx(0.05))
  fixed = _built(method, fixed=(0.0, 6.0))
  assert _range(fixed, [zeros]) == (0.0, 6.0)
  unused = _built(method)
  assert _range(unused, []) == (-quantizers.INITIAL, quantizers.INITIAL)


def test_what_is_not_finite_is_told():
  with pytest.raises(errors.Failure, match='not finite'):
    histogram.Histogram().add(np.array([1.0, np.nan]))


def _model():
  inputs = tf_keras.Input([8, 8, 3])
  x = tf_keras.layers.Conv2D(4, 3)(inputs)
  x = tf_keras.layers.ReLU()(x)
  return tf_keras.Model(inputs, tf_keras.layers.ReLU()(
      tf_keras.layers.Conv2D(4, 3)(x)))


def test_a_rule_chooses_the_method_of_a_layer():
  images = conftest.random_images([16, 8, 8, 3])
  floats = _model()
  ranges = {}
  for method in ('min_max', 'percentile'):
    model = factory.compress(floats, quantization_cfg.Quantization(
        calibration_method='min_max', rules=[{
            'path': 're_lu_1', 'calibration_method': method,
            'calibration_percentile': 90.0}]))
    calibration.calibrate(model, [(images, None)])
    ranges[method] = [
        float(q.maximum) for q in calibration.quantizers_of(model)
        if isinstance(q, quantizers.ActivationQuantizer)]
  *before, last = ranges['percentile']
  assert before == ranges['min_max'][:-1]
  assert last < ranges['min_max'][-1]
  assert last == pytest.approx(np.percentile(floats(images), 90.0), rel=0.01)


@pytest.mark.parametrize('field', ['block', 'rule'])
def test_a_method_that_does_not_exist_is_named_with_the_nearest(field):
  config = quantization_cfg.Quantization(calibration_method='entropie') if (
      field == 'block') else quantization_cfg.Quantization(
          rules=[{'calibration_method': 'entropie'}])
  with pytest.raises(errors.UsageError, match="'entropie'.*'entropy'"):
    factory.compress(_model(), config)


@pytest.mark.parametrize(('fields', 'problem'), [
    ({'calibration_percentile': 50.0}, r'must lie in \(50, 100\]'),
    ({'rules': [{'calibration_percentile': 101.0}]},
     r'rules\[0\].calibration_percentile'),
    ({'training': False, 'calibration_steps': 0}, 'with training: false')])
def test_values_out_of_range_are_told(fields, problem):
  found = overrides.problems_of(
      {'quantization': quantization_cfg.Quantization(fields)})
  assert len(found) == 1 and re.search(problem, found[0])
