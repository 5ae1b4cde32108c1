"""Writes one TFRecord file, and what is in it."""

from collections.abc import Iterable
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import os
from typing import Any
import uuid

import tensorflow as tf

from modelgarden_opt import files
from modelgarden_opt.data import examples
from modelgarden_opt.data.importing import preparing
from modelgarden_opt.data.importing import source as source_lib

# What a shard's summary is called, beside it and as long as others are missing.
SUMMARY = '.summary.json'


@dataclasses.dataclass(frozen=True)
class Shard:
  """One file to be written.

  Attributes:
    path: Where it goes.
    split: Its split.
    items: Its images.
  """
  path: str
  split: str
  items: Sequence[source_lib.Item]


@dataclasses.dataclass
class Summary:
  """What is in a shard; kept as JSON until all shards are written.

  Attributes:
    file: Name of the shard.
    split: Its split.
    num_records: Number of records.
    num_bytes: Size of the file.
    sha256: Digest of the file.
    labels: Number of images (of masks: of pixels) by class.
    formats: Number of images by format.
    sizes: Number of images by `HEIGHTxWIDTH`.
    means: Sum over the images of their mean red, green and blue.
    problems: Fields of `source.Problem`.
    digests: (digest of the image, its name, its class) of every record.
  """
  file: str
  split: str
  num_records: int = 0
  num_bytes: int = 0
  sha256: str = ''
  labels: dict[str, int] = dataclasses.field(default_factory=dict)
  formats: dict[str, int] = dataclasses.field(default_factory=dict)
  sizes: dict[str, int] = dataclasses.field(default_factory=dict)
  means: list[float] = dataclasses.field(default_factory=lambda: [0.0] * 3)
  problems: list[list[Any]] = dataclasses.field(default_factory=list)
  digests: list[list[Any]] = dataclasses.field(default_factory=list)

  def add(self, prepared: preparing.Prepared) -> None:
    """Counts an image that is written."""
    picture, name = prepared.picture, prepared.item.name
    self.problems += [[name, kind, text, True]
                      for kind, text in picture.remarks]
    self.num_records += 1
    self.means = [a + b for a, b in zip(self.means, picture.mean)]
    self.digests.append([prepared.digest, name, prepared.item.label])
    _count(self.formats, picture.format)
    _count(self.sizes, f'{picture.height}x{picture.width}')
    labels = prepared.pixels if prepared.mask is not None else {
        prepared.item.label: 1}
    for label, number in labels.items():
      _count(self.labels, str(label), number)


def _count(counts: dict[str, int], key: str, number: int = 1) -> None:
  counts[key] = counts.get(key, 0) + number


def load_summary(path: str) -> Summary | None:
  """Returns the summary of a shard that is complete, None if it is not."""
  values = files.read_json_if_any(path + SUMMARY)
  return Summary(**values) if values and files.exists(path) else None


def write(
    shard: Shard,
    prepared: Iterable[preparing.Prepared | source_lib.Problem],
) -> Summary:
  """Writes a shard, whole or not at all, and then its summary.

  Args:
    shard: What goes where.
    prepared: Its images.

  Returns:
    The summary.
  """
  summary = Summary(os.path.basename(shard.path), shard.split)
  temporary = f'{shard.path}.tmp-{uuid.uuid4().hex}'
  try:
    with tf.io.TFRecordWriter(temporary) as writer:
      for found in prepared:
        if isinstance(found, source_lib.Problem):
          summary.problems.append(list(dataclasses.astuple(found)))
        else:
          writer.write(_record(found))
          summary.add(found)
    content = files.read_bytes(temporary)
    summary.sha256 = hashlib.sha256(content).hexdigest()
    summary.num_bytes = len(content)
    tf.io.gfile.rename(temporary, shard.path, overwrite=True)
  except BaseException:
    with contextlib.suppress(tf.errors.OpError):
      tf.io.gfile.remove(temporary)
    raise
  files.write_json(shard.path + SUMMARY, dataclasses.asdict(summary))
  return summary


def _record(prepared: preparing.Prepared) -> bytes:
  picture = prepared.picture
  if prepared.mask is not None:
    return examples.segmentation(picture.content, prepared.mask)
  return examples.classification(
      picture.content, picture.format, prepared.item.label)
