"""A folder for every class: SOURCE/CLASS/IMAGE or SOURCE/SPLIT/CLASS/IMAGE."""

from collections.abc import Iterable
import os

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.data.importing import images
from modelgarden_opt.data.importing import source as source_lib
from modelgarden_opt.data.importing import splitting

_FIRST_BYTES = 16


def read(directory: str) -> source_lib.Source:
  """Returns the images of a directory, whose class is the folder's name.

  Args:
    directory: The source. If its folders are named after splits, theirs are
      the classes.

  Raises:
    UsageError: If a class has no image, or there is only one class.
  """
  paths = files.below(directory)
  tops = {path.split('/')[0] for path in paths if '/' in path}
  with_splits = bool(tops) and all(splitting.named(top) for top in tops)
  found, folders, problems = [], set(), []
  for path in paths:
    *parents, name = path.split('/')
    split = splitting.named(parents.pop(0)) if with_splits and parents else ''
    if parents:
      folders.add(parents[0])
    if not name:
      continue
    if not is_image(os.path.join(directory, path)):
      problems.append(source_lib.Problem(path, 'not_an_image', 'not an image'))
    elif not parents:
      problems.append(source_lib.Problem(
          path, 'no_class', 'an image in no folder of a class'))
    else:
      found.append((path, parents[0], split))
  if not found:
    raise errors.UsageError(
        f'source: no image in a folder of a class below {directory!r}; '
        'expected SOURCE/CLASS/IMAGE or SOURCE/SPLIT/CLASS/IMAGE')
  classes = in_order(folders)
  numbers = {name: number for number, name in enumerate(classes)}
  items = [source_lib.Item(path, os.path.join(directory, path), numbers[name],
                           split) for path, name, split in found]
  splitting.assert_classes(classes, (item.label for item in items))
  return source_lib.Source(
      source_lib.CLASSIFICATION, classes, items, load, problems)


def load(item: source_lib.Item) -> source_lib.Loaded:
  """Returns the content of an item's file."""
  return load_file(item.path), None


def load_file(path: str) -> bytes:
  """Returns the content of an image file.

  Raises:
    Unusable: If it cannot be read.
  """
  try:
    return files.read_bytes(path)
  except FileNotFoundError:
    raise images.Unusable('missing', 'there is no such file') from None
  except OSError as e:
    raise images.Unusable(
        'unreadable', f'cannot be read: {e.strerror or e}') from None


def is_image(path: str) -> bool:
  """Whether a file may be an image; opens it only if its name says nothing."""
  if images.looks_like_one(path, b''):
    return True
  try:
    return images.looks_like_one(path, files.read_bytes(path)[:_FIRST_BYTES])
  except OSError:
    return False


def in_order(names: Iterable[str]) -> tuple[str, ...]:
  """Returns names of classes in the order of their numbers: sorted.

  Names that are integers are sorted as numbers.
  """
  names = list(names)
  if all(name.lstrip('-').isdecimal() for name in names):
    return tuple(sorted(names, key=int))
  return tuple(sorted(names))
