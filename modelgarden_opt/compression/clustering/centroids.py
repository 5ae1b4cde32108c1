"""Initial centroids of weights: pure functions of arrays.

LINEAR, RANDOM and DENSITY_BASED are TFMOT's by formula and by name;
KMEANS_PLUS_PLUS goes on from TFMOT's seeds to the means of the clusters.
"""

from collections.abc import Callable

import numpy as np

from modelgarden_opt.configs.clustering import PRESERVE

# Steps of Lloyd's algorithm; on sorted weights each costs next to nothing.
_LLOYD_STEPS = 30
# Of TFMOT's density-based initialization.
_GRID_SIZE, _GAP = 30, 0.01


def _linear(values: np.ndarray, count: int, rng) -> np.ndarray:
  """Evenly from the smallest to the largest value."""
  del rng
  return np.linspace(values.min(), values.max(), count)


def _random(values: np.ndarray, count: int, rng) -> np.ndarray:
  """Uniformly between the smallest and the largest value."""
  return rng.uniform(values.min(), values.max(), count)


def _density_based(values: np.ndarray, count: int, rng) -> np.ndarray:
  """Where the distribution function passes evenly spaced probabilities."""
  del rng
  low, high = values.min(), values.max()
  gap = _GAP
  if low > 0 or high < 0:  # One side of zero: the grid shall not cross it.
    gap = min(gap, abs(low) / 2, abs(high) / 2)
  grid = np.linspace(low - gap, high + gap, _GRID_SIZE)
  distribution = np.searchsorted(np.sort(values), grid, 'right') / len(values)
  found = np.searchsorted(distribution, np.linspace(0.01, 1.0, count), 'right')
  return grid[np.minimum(found, _GRID_SIZE - 1)]


def _kmeans_plus_plus(values: np.ndarray, count: int, rng) -> np.ndarray:
  """Seeds far from each other, moved to the means of their clusters.

  Source: Arthur & Vassilvitskii, "k-means++: The Advantages of Careful
  Seeding", SODA 2007; then Lloyd's algorithm.
  """
  values = np.sort(values).astype(np.float64)
  seeds = [rng.choice(values)]
  distances = np.full(len(values), np.inf)
  for _ in range(count - 1):
    distances = np.minimum(distances, (values - seeds[-1])**2)
    total = distances.sum()
    if not total:
      break
    seeds.append(values[np.searchsorted(
        np.cumsum(distances), rng.uniform(0.0, total))])
  found = np.sort(seeds)
  sums = np.concatenate([[0.0], np.cumsum(values)])
  for _ in range(_LLOYD_STEPS):
    ends = np.searchsorted(values, (found[1:] + found[:-1]) / 2, 'right')
    ends = np.concatenate([[0], ends, [len(values)]])
    sizes = np.diff(ends)
    means = np.diff(sums[ends]) / np.maximum(sizes, 1)
    moved = np.where(sizes, means, found)
    if np.array_equal(moved, found):
      break
    found = moved
  return np.pad(found, (0, count - len(found)), mode='edge')


INITIALIZERS: dict[str, Callable[..., np.ndarray]] = {
    'LINEAR': _linear,
    'RANDOM': _random,
    'DENSITY_BASED': _density_based,
    'KMEANS_PLUS_PLUS': _kmeans_plus_plus,
}


def cluster(
    values: np.ndarray,
    count: int,
    initializer: str,
    preserve_sparsity: bool = False,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns centroids and which of them is nearest to every value.

  Args:
    values: Array of any shape.
    count: Number of clusters, >= 2 (>= 3 to preserve sparsity).
    initializer: Key of `INITIALIZERS`, or `PRESERVE`.
    preserve_sparsity: Whether zeros are a separate cluster, to which no other
      value belongs. Negative and positive values share the other clusters
      in proportion, as in TFMOT.
    seed: Seed of the random initializers.

  Returns:
    Centroids of shape [count] in rising order, and indices of the shape of
    `values`.

  Raises:
    ValueError: If `PRESERVE` finds more distinct values than `count`.
  """
  flat = values.reshape(-1)
  if initializer == PRESERVE:
    found = np.unique(flat)
    if len(found) > count:
      raise ValueError(f'{len(found)} distinct values, more than {count}')
    found = np.pad(found, (0, count - len(found)), mode='edge')
    return found, np.searchsorted(found, flat).reshape(values.shape)
  rng = np.random.default_rng(seed)
  initialize = INITIALIZERS[initializer]
  if not preserve_sparsity:
    found = np.sort(initialize(flat, count, rng))
    return found, _nearest(found, flat).reshape(values.shape)
  found, indices = [], np.zeros(len(flat), np.int64)
  for sign, share in _shares(flat, count):
    chosen = np.sign(flat) == sign
    side = (np.sort(initialize(flat[chosen], share, rng)) if sign
            else np.zeros(1))
    indices[chosen] = len(found) + _nearest(side, flat[chosen])
    found += list(side)
  found += [found[-1]] * (count - len(found))
  return np.array(found), indices.reshape(values.shape)


def _shares(flat: np.ndarray, count: int) -> list[tuple[int, int]]:
  """Returns (sign, number of clusters) for each sign, in rising order.

  Zero has a cluster whether there are zeros or not.
  """
  negative, positive = int(np.sum(flat < 0)), int(np.sum(flat > 0))
  if not negative + positive:
    return [(0, 1)]
  of_negative = round((count - 1) * negative / (negative + positive))
  of_negative = min(max(of_negative, int(negative > 0)),
                    count - 1 - int(positive > 0))
  shares = [(-1, of_negative), (0, 1), (1, count - 1 - of_negative)]
  return [(sign, share) for sign, share in shares if share]


def _nearest(centroids: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Returns the index of the nearest of sorted centroids; of two the lower."""
  return np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values, 'left')
