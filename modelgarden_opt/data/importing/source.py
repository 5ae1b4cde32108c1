"""What a reader finds out about a data set before an image is opened."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses

import numpy as np

CLASSIFICATION = 'image_classification'
SEGMENTATION = 'semantic_segmentation'


@dataclasses.dataclass(frozen=True)
class Item:
  """One image.

  Attributes:
    name: What messages call it: its path below the source, or its number.
    path: File that it is in.
    label: Number of its class; 0 where every pixel has one.
    split: `train`, `validation` or `test` if the source says so, else ''.
    key: Name of its array if the file has several.
    index: Its place if the file is an array.
    mask: File with the class of every pixel, for segmentation.
  """
  name: str
  path: str
  label: int = 0
  split: str = ''
  key: str = ''
  index: int = 0
  mask: str = ''


@dataclasses.dataclass(frozen=True)
class Problem:
  """Something that a user should know about one file.

  Attributes:
    name: The item's name.
    kind: A word to count by, such as `damaged`.
    text: What it is.
    imported: Whether the image is imported all the same.
  """
  name: str
  kind: str
  text: str
  imported: bool = False


# The image of an item, as the content of a file or as an array of bytes
# [height, width] or [height, width, 1, 3 or 4], and its mask, if any: the
# content of a file, or an array [height, width].
Loaded = tuple[bytes | np.ndarray, bytes | np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class Source:
  """A data set as a reader lists it.

  Attributes:
    task: `CLASSIFICATION` or `SEGMENTATION`.
    classes: Names of the classes; () if only the masks know how many there are.
    items: The images, in an order that depends on the source alone.
    load: Returns the image of an item: a function of a module, as it is called
      in other processes.
    problems: What was found without opening an image.
  """
  task: str
  classes: tuple[str, ...]
  items: Sequence[Item]
  load: Callable[[Item], Loaded]
  problems: Sequence[Problem] = ()
