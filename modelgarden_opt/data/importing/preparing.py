"""Reads and checks images, in several processes: what costs time.

Nothing here, and nothing that a reader imports, imports TensorFlow: a process
starts in a fraction of a second.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import multiprocessing
import os
import threading

import numpy as np

from modelgarden_opt import errors
from modelgarden_opt.data.importing import images
from modelgarden_opt.data.importing import masks
from modelgarden_opt.data.importing import source as source_lib

# Images that a process is given at a time, and how many such portions are
# under way for each: what bounds the memory.
_PORTION = 16
_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Prepared:
  """An image that can be written.

  Attributes:
    item: What it was made of.
    picture: The image.
    digest: Of its content.
    mask: For segmentation: the class of every pixel, [height, width].
    pixels: For segmentation: number of pixels by class.
  """
  item: source_lib.Item
  picture: images.Picture
  digest: str
  mask: np.ndarray | None = None
  pixels: dict[int, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Preparation:
  """How images are read and checked.

  Attributes:
    load: Returns the image of an item.
    num_classes: Number of classes, 0 if only the masks know.
    ignore_value: Value of a mask that counts for nothing.
  """
  load: Callable[[source_lib.Item], source_lib.Loaded]
  num_classes: int
  ignore_value: int

  def __call__(self, item: source_lib.Item) -> Prepared | source_lib.Problem:
    """Returns an item ready to be written, or why it cannot be."""
    try:
      loaded, mask = self.load(item)
      picture = (images.of_file(loaded, item.path)
                 if isinstance(loaded, bytes) else images.of_array(loaded))
      pixels = {}
      if mask is not None:
        mask = masks.decode(
            mask, (picture.height, picture.width), self.ignore_value)
        pixels = self._pixels(mask)
    except images.Unusable as e:
      return source_lib.Problem(item.name, e.kind, e.text)
    digest = hashlib.sha256(picture.content).hexdigest()[:16]
    return Prepared(item, picture, digest, mask, pixels)

  def _pixels(self, mask: np.ndarray) -> dict[int, int]:
    """Counts the pixels of every class; refuses numbers that no class has."""
    counts = np.bincount(mask.ravel(), minlength=256)
    counts[masks.IGNORED] = 0
    present = np.flatnonzero(counts).tolist()
    outside = [n for n in present if self.num_classes and n >= self.num_classes]
    if outside:
      raise images.Unusable(
          'wrong_mask', f'its mask has pixels of class {outside[0]}, but there '
          f'are {self.num_classes} classes')
    return {number: int(counts[number]) for number in present}


def prepare(
    items: Iterable[source_lib.Item], preparation: Preparation,
    num_processes: int,
) -> Iterator[Prepared | source_lib.Problem]:
  """Yields every item ready to be written, or why it cannot be, in order.

  Args:
    items: The images.
    preparation: How they are read and checked.
    num_processes: Number of processes; with one, it is this one.

  Raises:
    Failure: If a process was killed.
  """
  if num_processes < 2:
    yield from map(preparation, items)
    return
  # A forked copy of TensorFlow's threads hangs; a fresh process does not.
  context = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(
      num_processes, context, initializer=_end_with_parent) as pool:
    try:
      yield from _in_order(
          pool, functools.partial(_portion, preparation), items,
          num_processes * _AHEAD)
    except concurrent.futures.process.BrokenProcessPool:
      raise errors.Failure(
          'a process of the import was killed, maybe for want of memory; the '
          'same command goes on, with fewer --num_processes if need be'
      ) from None
    finally:
      pool.shutdown(wait=True, cancel_futures=True)


def _in_order(pool, function, items, ahead) -> Iterator:
  """Yields results of portions of items, with some portions under way."""
  items, waiting = iter(items), collections.deque()
  while True:
    while len(waiting) < ahead:
      portion = list(itertools.islice(items, _PORTION))
      if not portion:
        break
      waiting.append(pool.submit(function, portion))
    if not waiting:
      return
    yield from waiting.popleft().result()


def _portion(
    preparation: Preparation, items: Sequence[source_lib.Item]
) -> list[Prepared | source_lib.Problem]:
  return [preparation(item) for item in items]


def _end_with_parent() -> None:
  """Lets this process end when the one that started it is gone."""
  def watch():
    multiprocessing.parent_process().join()
    os._exit(1)
  threading.Thread(target=watch, daemon=True).start()
