"""The integer program against all assignments."""

import itertools

import numpy as np
import pytest

from modelgarden_opt.search import assignment


def _totals(values, indices):
  return sum(v[i] for v, i in zip(values, indices))


@pytest.mark.parametrize('share', [0.05, 0.2, 0.5, 0.9, 1.0])
def test_it_finds_the_cheapest_assignment_within_the_limit(share):
  rng = np.random.default_rng(3)
  costs = [rng.uniform(1, 1e6, size) for size in (3, 4, 2, 5, 3)]
  harms = [rng.uniform(0, 1e-4, len(cost)) for cost in costs]
  least, most = (sum(f(h) for h in harms) for f in (np.min, np.max))
  limit = least + share * (most - least)
  best = min(
      _totals(costs, indices) for indices in itertools.product(
          *(range(len(c)) for c in costs))
       if _totals(harms, indices) <= limit)
  found = assignment.solve(costs, harms, limit)
  assert _totals(harms, found) <= limit * (1 + 1e-6)
  assert _totals(costs, found) <= best * (1 + 2e-3)


def test_a_limit_that_nothing_meets_gives_the_least_harm():
  costs = [np.array([1.0, 5.0, 3.0]), np.array([2.0, 9.0])]
  harms = [np.array([7.0, 1.0, 1.0]), np.array([4.0, 2.0])]
  assert assignment.solve(costs, harms, 0.0) == [2, 1]
