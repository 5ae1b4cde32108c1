"""A seeded random sample of serialized records, whatever their order in files.

Files are often sorted by class, so their first records are of one class only.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import heapq
import os
import struct

from absl import logging
import numpy as np
import tensorflow as tf

# What is read at most for one sample.
MAX_BYTES = 2 << 30
# What precedes a record: the length of its content.
_LENGTH = struct.Struct('<Q')
# Records that are read at a time.
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Record:
  """One serialized record.

  Attributes:
    file: The file that it is in.
    number: Its number in the file, from 0.
    content: Its bytes, not decoded.
  """
  file: str
  number: int
  content: bytes


def sample(
    files: Sequence[str],
    read: Callable[[str], tf.data.Dataset],
    count: int,
    seed: int,
    max_bytes: int = MAX_BYTES,
) -> list[Record]:
  """Returns records drawn uniformly without replacement, in random order.

  Every record gets a random key, and those with the smallest keys are the
  sample: one pass, and memory for the sample only. Of files that together are
  larger than `max_bytes`, a random choice of at most `count` is read, and of
  each only as many of its first records as an equal share of `max_bytes` holds.

  Args:
    files: The files.
    read: Returns the serialized records of a file, such as
      `tf.data.TFRecordDataset`.
    count: Size of the sample; all records if there are fewer.
    seed: Seed of the random choice.
    max_bytes: Bytes that are read at most, whole batches of records.
  """
  rng = np.random.default_rng(seed)
  files, share = sorted(files), float('inf')
  if sum(tf.io.gfile.stat(file).length for file in files) > max_bytes:
    chosen = rng.choice(len(files), min(len(files), count), replace=False)
    files = [files[index] for index in sorted(chosen)]
    share = max_bytes / len(files)
    logging.info('Sampling the first %.1f MiB of each of %d training files.',
                 share / 2**20, len(files))
  smallest: list[tuple[float, str, int, bytes]] = []
  for file in files:
    number = num_bytes = 0
    for batch in read(file).batch(_BATCH).as_numpy_iterator():
      for key, content in zip(rng.random(len(batch)), batch):
        if len(smallest) < count:
          heapq.heappush(smallest, (-key, file, number, content))
        elif -key > smallest[0][0]:
          heapq.heapreplace(smallest, (-key, file, number, content))
        number += 1
        num_bytes += len(content)
      if num_bytes >= share:
        break
  return [Record(file, number, content)
          for _, file, number, content in sorted(smallest, reverse=True)]


def write(records: Sequence[Record], path: str) -> None:
  """Writes records to one TFRecord file, in their order."""
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with tf.io.TFRecordWriter(path) as writer:
    for record in records:
      writer.write(record.content)


def count(files: Sequence[str]) -> int | None:
  """Returns the number of records of TFRecord files, without reading them.

  Args:
    files: The files.

  Returns:
    The number; None if one of them is not local or not whole.
  """
  number = 0
  for path in files:
    if '://' in path:
      return None
    size = os.path.getsize(path)
    with open(path, 'rb') as f:
      while header := f.read(_LENGTH.size):
        if len(header) < _LENGTH.size:
          return None
        # Two checksums: of the length, and of the content.
        end = f.tell() + _LENGTH.unpack(header)[0] + 8
        if end > size:
          return None
        f.seek(end)
        number += 1
  return number
