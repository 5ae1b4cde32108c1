"""Intervals of quantiles hold, and are open where no value reaches."""

import numpy as np
import pytest

from modelgarden_opt.benchmark import quantiles


@pytest.mark.parametrize('count, share, low, high', [
    # Conover, Practical Nonparametric Statistics: ranks 6 and 15 of 20.
    (20, 0.5, 6, 15), (5, 0.5, None, None), (6, 0.5, 1, 6),
    # 1 - 0.99^n reaches 97.5 % at n = 368.
    (367, 0.99, 359, None), (368, 0.99, 360, 368)])
def test_ranks_are_those_of_the_binomial(count, share, low, high):
  values = np.random.default_rng(0).permutation(np.arange(1, count + 1))
  assert quantiles.interval(values, share) == (low, high)


@pytest.mark.parametrize('count, share', [(30, 0.5), (100, 0.9), (500, 0.99)])
def test_an_interval_covers_the_quantile(count, share):
  rng = np.random.default_rng(0)
  true = -np.log(1.0 - share)  # Of the exponential distribution.
  covered = 0
  for _ in range(500):
    low, high = quantiles.interval(rng.exponential(size=count), share)
    covered += (low is None or low <= true) and (high is None or true <= high)
  assert covered >= 0.93 * 500


def test_a_record_has_every_quantile_with_its_ends():
  found = quantiles.record(range(1, 21))
  assert found['median_ms'] == 10.5 and found['min_ms'] == 1.0
  assert (found['median_ms_low'], found['median_ms_high']) == (6.0, 15.0)
  assert found['p99_ms_high'] is None
  assert found['median_ms'] < found['p90_ms'] < found['p99_ms']
