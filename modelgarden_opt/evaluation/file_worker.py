"""What runs files on images in another process. It imports no TensorFlow."""

from collections.abc import Sequence
import dataclasses
import mmap
import os
import time

import numpy as np

from modelgarden_opt.evaluation import litert_model


@dataclasses.dataclass(frozen=True)
class Expected:
  """What files have to take and to compute.

  Attributes:
    image_shape: Height, width and channels of the images.
    num_classes: Number of classes that the outputs are of.
    segmentation: Whether every pixel has a class.
  """
  image_shape: tuple[int, ...]
  num_classes: int
  segmentation: bool = False


class SharedImages:
  """A part of memory that several processes read images from.

  Attributes:
    descriptor: File descriptor by which another process opens it.
  """

  def __init__(self, descriptor: int):
    """Opens the memory of a file descriptor, which may grow."""
    self.descriptor = descriptor
    self._memory: mmap.mmap | None = None

  def view(self, offset: int, shape: Sequence[int]) -> np.ndarray:
    """Returns float32 values that begin at a number of bytes."""
    size = offset + 4 * int(np.prod(shape))
    if self._memory is None or size > len(self._memory):
      self._memory = mmap.mmap(
          self.descriptor, max(size, os.fstat(self.descriptor).st_size))
    return np.frombuffer(self._memory, np.float32, int(np.prod(shape)),
                         offset).reshape(shape)


class FileWorker:
  """Files that are loaded once and run on shares of batches."""

  def __init__(self, descriptor: int):
    """Starts without a file.

    Args:
      descriptor: Of the memory that images are read from.
    """
    self._images = SharedImages(descriptor)
    self._models: dict[str, litert_model.Model] = {}
    self._seconds = 0.0

  def load(self, path: str, expected: Expected, there: str) -> None:
    """Loads a file, with one thread.

    Args:
      path: By which `run` calls it.
      expected: What it has to take and to compute.
      there: Where it can be read, now.

    Raises:
      UsageError: If it is missing, cannot be loaded or does not fit.
    """
    model = litert_model.Model(there, 1)
    model.assert_takes(expected.image_shape)
    model.assert_computes(expected.num_classes, expected.segmentation)
    self._models[path] = model

  def run(
      self, path: str, offset: int, shape: Sequence[int], start: int, stop: int
  ) -> np.ndarray:
    """Returns the outputs of a file on some images of a batch.

    Args:
      path: The file.
      offset: Where the batch begins, in bytes.
      shape: Its shape, [n, height, width, channels].
      start: The first one of the images.
      stop: The one after the last.
    """
    begin = time.perf_counter()
    outputs = self._models[path](self._images.view(offset, shape)[start:stop])
    self._seconds += time.perf_counter() - begin
    return outputs

  def seconds(self) -> tuple[float, float]:
    """Returns how long files have run, in all and inside of the interpreter."""
    return self._seconds, sum(m.seconds for m in self._models.values())
