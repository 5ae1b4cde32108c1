"""A seeded random choice of records of a TFDS split, as another split.

TFDS reads any records by number, so no data have to be read to choose them.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

# A block is read from the start of its file, so there are not too many.
_NUM_BLOCKS = 64


def choose(
    name: str, data_dir: str, split: str, count: int, seed: int
) -> str:
  """Returns the name of a split of records from all over another split.

  The split is divided into equal parts, and a block of neighbouring records
  is taken from a random place of each.

  Args:
    name: Name of the data set.
    data_dir: Where it is kept, '' for the default.
    split: The split, such as `train[:90%]`.
    count: Number of records; at most one more for each block is taken.
    seed: Seed of the random choice.
  """
  builder = tfds.builder(name, **({'data_dir': data_dir} if data_dir else {}))
  if not builder.info.splits:
    return split  # Not prepared yet: TFDS does that when it reads.
  parts = list(_parts(builder.info.splits, split))
  total = sum(size for _, _, size in parts)
  if total <= count:
    return split
  rng = np.random.default_rng(seed)
  num_blocks = min(_NUM_BLOCKS, count)
  length = -(-count // num_blocks)
  ends = np.linspace(0, total, num_blocks + 1).astype(int)
  blocks = []
  for start, end in zip(ends[:-1], ends[1:]):
    first = int(rng.integers(start, max(start, end - length) + 1))
    blocks += _slices(parts, first, min(first + length, end))
  return '+'.join(blocks)


def _parts(splits, split: str) -> Iterator[tuple[str, int, int]]:
  """Yields (split, first record, number of records) of what a split adds up."""
  read = tfds.core.ReadInstruction.from_spec(split)
  for part in read.to_absolute(splits):
    first = part.from_ or 0
    last = splits[part.splitname].num_examples if part.to is None else part.to
    yield part.splitname, first, last - first


def _slices(parts, first: int, last: int) -> list[str]:
  """Returns the slices of splits that hold records `first` to `last`."""
  found, offset = [], 0
  for name, start, size in parts:
    begin, end = max(first - offset, 0), min(last - offset, size)
    if begin < end:
      found.append(f'{name}[{start + begin}:{start + end}]')
    offset += size
  return found
