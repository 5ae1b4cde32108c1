"""Paired differences hold what their interval promises."""

import numpy as np
import pytest

from modelgarden_opt.evaluation import paired


def test_the_difference_is_that_of_the_shares():
  a = np.array([True, True, True, False])
  b = np.array([True, False, True, False])
  result = paired.difference(a, b)
  assert result.value == 0.25 and result.low < 0.25 < result.high
  assert paired.difference(b, a).high == -result.low


def test_two_models_that_agree_everywhere_may_differ_on_other_images():
  same = np.ones(100, bool)
  result = paired.difference(same, same)
  assert result.value == 0 and -0.03 < result.low < -0.01


def test_the_interval_covers_the_true_difference_in_95_percent():
  rng = np.random.default_rng(0)
  covered = 0
  for _ in range(2000):
    right = rng.random(300) < 0.9
    broken, mended = rng.random(300) < 0.04, rng.random(300) < 0.10
    other = np.where(right, ~broken, mended)
    result = paired.difference(other, right)
    covered += result.low <= 0.1 * 0.10 - 0.9 * 0.04 <= result.high
  assert 0.935 < covered / 2000 < 0.97


@pytest.mark.parametrize('a, b', [([True], [True, False]), ([], [])])
def test_predictions_that_do_not_pair_are_refused(a, b):
  with pytest.raises(ValueError, match='do not pair'):
    paired.difference(np.array(a, bool), np.array(b, bool))
