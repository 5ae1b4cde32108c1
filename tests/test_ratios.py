"""Paired ratios: the interval holds, and noise is called so only when it is."""

import numpy as np
import pytest

from modelgarden_opt import ratios


def _measurements(rng, rounds, ratio, noise=0.07):
  """Two series under common drift, with noise and a heavy tail."""
  drift = np.cumsum(rng.normal(0.0, 0.03, rounds))

  def series():
    own = rng.normal(0.0, noise, rounds)
    disturbed = rng.random(rounds) < 0.1
    return np.exp(drift + own + disturbed * rng.exponential(0.5, rounds))

  return ratio * series(), series()


@pytest.mark.parametrize('rounds', [3, 5, 6, 7, 10, 20])
def test_the_interval_covers_the_true_ratio(rounds):
  rng = np.random.default_rng(rounds)
  found = [ratios.paired(*_measurements(rng, rounds, 1.12))
           for _ in range(300)]
  covered = np.mean([r.low <= 1.12 <= r.high for r in found])
  assert covered >= 0.9
  assert all(r.low <= r.value <= r.high for r in found)


@pytest.mark.parametrize('noise', [0.05, 0.1])
def test_a_true_difference_is_never_called_noise(noise):
  rng = np.random.default_rng(1)
  for _ in range(300):
    found = ratios.paired(*_measurements(rng, 10, 1.12, noise))
    text = str(found)
    assert not found.within_noise and 'noise' not in text
    assert 'no difference' not in text
    assert found.decided or ' more round' in text


def test_equal_times_are_within_noise_once_enough_rounds_show_it():
  rng = np.random.default_rng(2)
  few = ratios.paired(*_measurements(rng, 10, 1.0))
  assert not few.within_noise and few.rounds_missing > 0
  enough = [ratios.paired(*_measurements(
      rng, 10 + 2 * few.rounds_missing, 1.0)) for _ in range(40)]
  assert np.mean([r.within_noise for r in enough]) > 0.5
  assert str(ratios.Ratio(1.0, 0.98, 1.02, 400)) == (
      '1.00x [0.98, 1.02] (within noise)')


def test_rounds_missing_follow_from_the_width():
  wide = ratios.Ratio(1.1, 0.9, 1.3, 10)  # Half of it is twice the distance.
  assert wide.rounds_missing == 30
  assert str(wide) == '1.10x [0.90, 1.30] (30 more rounds needed)'
  assert ratios.Ratio(1.12, 1.09, 1.15, 10).rounds_missing == 0
  assert str(ratios.Ratio(1.12, 1.09, 1.15, 10)) == '1.12x [1.09, 1.15]'


def test_an_interval_that_excludes_1_does_not_look_as_if_it_contained_it():
  assert str(ratios.Ratio(1.02, 1.001, 1.04, 99)) == '1.020x [1.001, 1.040]'
  assert str(ratios.Ratio(0.468, 0.466, 0.47, 20)) == '0.468x [0.466, 0.470]'


def test_a_single_sample_has_no_interval():
  found = ratios.paired([3.0], [2.0])
  assert (found.low, found.high) == (None, None)
  assert str(found) == '1.50x (one sample)'
  assert ratios.Ratio.of_record(found.record()) == found
  assert str(ratios.Ratio.of_record({'ratio': 0.69})) == '0.69x'


def test_a_series_is_1_times_itself():
  assert str(ratios.paired([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])) == '1.00x'


@pytest.mark.parametrize('a, b', [
    ([], []), ([1.0], [1.0, 2.0]), ([1.0, 0.0], [1.0, 1.0])])
def test_what_does_not_pair_is_refused(a, b):
  with pytest.raises(ValueError):
    ratios.paired(a, b)
