"""A folder for every class: SOURCE/CLASS/IMAGE or SOURCE/SPLIT/CLASS/IMAGE."""

import collections
from collections.abc import Iterable
import os

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.data.importing import images
from modelgarden_opt.data.importing import source as source_lib
from modelgarden_opt.data.importing import splitting

_FIRST_BYTES = 16
# Folders of programs and archives that do not begin with a dot.
_OF_PROGRAMS = ('__MACOSX', '@eaDir')


def read(directory: str) -> source_lib.Source:
  """Returns the images of a directory, whose class is the folder's name.

  Args:
    directory: The source. If its folders are named after splits, theirs are
      the classes.

  Raises:
    UsageError: If a class has no image, or there is only one class, or only
      some folders are splits.
  """
  paths, problems = _without_hidden(files.below(directory))
  with_splits = _with_splits(directory, paths)
  found, folders = [], set()
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
  splitting.assert_classes(directory, classes, (item.label for item in items))
  return source_lib.Source(
      source_lib.CLASSIFICATION, classes, items, load, problems)


def _without_hidden(
    paths: Iterable[str]) -> tuple[list[str], list[source_lib.Problem]]:
  """Takes out what programs hide, such as `.git` and `.ipynb_checkpoints`."""
  shown, hidden = [], collections.Counter()
  for path in paths:
    parts = path.split('/')
    depth = next((depth for depth, name in enumerate(parts, 1) if (
        name.startswith('.') or name in _OF_PROGRAMS)), None)
    if depth is None:
      shown.append(path)
    else:
      hidden['/'.join([*parts[:depth], ''][:len(parts)])] += not (
          path.endswith('/'))
  return shown, [source_lib.Problem(
      name, 'hidden', f'hidden, with {count:,} files' if name.endswith('/')
      else 'a hidden file') for name, count in hidden.items()]


def _with_splits(directory: str, paths: Iterable[str]) -> bool:
  """Whether the folders of a source are splits: all of them, or none.

  Raises:
    UsageError: If one that has the name of a split holds folders only, and
      another is no split: it would become a class.
  """
  depths: dict[str, set[bool]] = {}
  for path in paths:
    top, *rest = path.split('/')
    if rest and rest != ['']:
      depths.setdefault(top, set()).add(len(rest) > 1)
  tops = {path.split('/')[0] for path in paths if '/' in path}
  others = sorted(top for top in tops if not splitting.named(top))
  of_folders = sorted(top for top, deep in depths.items()
                      if splitting.named(top) and deep == {True})
  if others and of_folders:
    raise errors.UsageError(
        f'source: {", ".join(map(repr, of_folders))} in {directory!r} have the '
        'name of a split and hold folders, as in SOURCE/SPLIT/CLASS/IMAGE, but '
        f'{", ".join(map(repr, others[:10]))} beside them would be classes; '
        'move away what is neither')
  return bool(tops) and not others


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
  except (FileNotFoundError, ValueError):  # Or a name that no file can have.
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
  if all(name.removeprefix('-').isdecimal() for name in names):
    return tuple(sorted(names, key=lambda name: (int(name), name)))
  return tuple(sorted(names))
