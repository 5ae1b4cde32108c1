"""Which elements of a kernel are pruned: pure functions of arrays.

A kernel is looked at as TFLite stores it: for N:M sparsity the elements that
lie side by side are those of one filter along its input channels.
"""

import numpy as np


def keep_largest(magnitudes: np.ndarray, sparsity: float) -> np.ndarray:
  """Returns which elements stay when a share of the smallest ones goes.

  Exactly `round(size * (1 - sparsity))` elements stay, as in TFMOT; of equal
  ones, those that come first.

  Args:
    magnitudes: Non-negative array of any shape.
    sparsity: Share of elements to be pruned, in [0, 1].

  Returns:
    bool array of the same shape, True where an element stays.
  """
  flat = magnitudes.reshape(-1)
  kept = int(np.round(flat.size * (1.0 - sparsity)))
  mask = np.zeros(flat.size, bool)
  mask[np.argsort(-flat, kind='stable')[:kept]] = True
  return mask.reshape(magnitudes.shape)


def keep_blocks(
    magnitudes: np.ndarray,
    sparsity: float,
    block: tuple[int, int],
    pooling: str = 'AVG',
) -> np.ndarray:
  """Returns which elements stay when whole blocks go.

  The number of zeros is as near to the sparsity as whole blocks allow.

  Args:
    magnitudes: Non-negative array; its last axis is the output channel, all
      others together are the rows of the matrix that is cut into blocks.
    sparsity: Share of elements to be pruned, in [0, 1].
    block: Height and width of a block; blocks at the edges may be smaller.
    pooling: `AVG` or `MAX` magnitude of a block decides.
  """
  if tuple(block) == (1, 1):
    return keep_largest(magnitudes, sparsity)
  matrix = magnitudes.reshape(-1, magnitudes.shape[-1])
  rows, columns = matrix.shape
  grid = [-(-rows // block[0]), -(-columns // block[1])]
  padded = np.full(
      [grid[0] * block[0], grid[1] * block[1]], np.nan, np.float64)
  padded[:rows, :columns] = matrix
  blocks = padded.reshape(grid[0], block[0], grid[1], block[1])
  pool = np.nanmean if pooling == 'AVG' else np.nanmax
  sizes = np.sum(~np.isnan(blocks), axis=(1, 3))
  kept = _keep_share(pool(blocks, axis=(1, 3)), sizes, 1.0 - sparsity)
  kept = np.repeat(np.repeat(kept, block[0], axis=0), block[1], axis=1)
  return kept[:rows, :columns].reshape(magnitudes.shape)


def _keep_share(
    magnitudes: np.ndarray, sizes: np.ndarray, share: float) -> np.ndarray:
  """Returns which blocks stay so that nearly a share of all elements does.

  Args:
    magnitudes: Magnitude of every block.
    sizes: Number of elements of every block.
    share: Share of elements to stay, in [0, 1].
  """
  order = np.argsort(-magnitudes.reshape(-1), kind='stable')
  counts = np.concatenate([[0], np.cumsum(sizes.reshape(-1)[order])])
  kept = int(np.argmin(np.abs(counts - share * counts[-1])))
  mask = np.zeros(magnitudes.size, bool)
  mask[order[:kept]] = True
  return mask.reshape(magnitudes.shape)


def keep_m_by_n(
    magnitudes: np.ndarray, m_by_n: tuple[int, int], share: float = 1.0
) -> np.ndarray:
  """Returns which elements stay when m of n neighbours go.

  Neighbours are input channels of one filter at one position.

  Args:
    magnitudes: Non-negative array [..., input channels, output channels] whose
      input channels are a multiple of n.
    m_by_n: (m, n): the m smallest of n neighbours go.
    share: Share of the groups that are pruned so far, in [0, 1]: those first
      that lose least.
  """
  m, n = m_by_n
  by_filter = np.moveaxis(magnitudes, -2, -1)
  groups = by_filter.reshape(-1, n)
  order = np.argsort(groups, axis=-1, kind='stable')
  kept = np.ones(groups.shape, bool)
  np.put_along_axis(kept, order[:, :m], False, axis=-1)
  loss = np.sum(np.where(kept, 0.0, groups), axis=-1)
  untouched = keep_largest(loss, share)
  kept |= untouched[:, np.newaxis]
  return np.moveaxis(kept.reshape(by_filter.shape), -1, -2)
