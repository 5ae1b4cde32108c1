"""Which images train, validate and test: given by the source, or by a seed."""

from collections.abc import Iterable
from collections.abc import Sequence

import numpy as np

from modelgarden_opt import errors
from modelgarden_opt.data.importing import source as source_lib

TRAIN, VALIDATION, TEST = SPLITS = ('train', 'validation', 'test')
# What people call the directories and columns.
_NAMES = {
    'train': TRAIN, 'training': TRAIN, 'validation': VALIDATION,
    'valid': VALIDATION, 'val': VALIDATION, 'dev': VALIDATION, 'test': TEST,
    'testing': TEST,
}


def named(name: str) -> str:
  """Returns the split that a name stands for, '' for none."""
  return _NAMES.get(name.strip().lower(), '')


def parse_shares(text: str) -> tuple[float, float, float]:
  """Returns the shares that add up to 1 in a text such as `80,10,10`.

  Raises:
    UsageError: If these are not three numbers, or training or validation gets
      nothing.
  """
  try:
    shares = [float(part) for part in text.split(',')]
  except ValueError:
    shares = []
  if (len(shares) != 3 or not np.isfinite(shares).all() or min(shares) < 0 or
      not shares[0] or not shares[1]):
    raise errors.UsageError(
        'splits: expected three numbers, the shares of train, validation and '
        'test, such as 80,10,10; only that of test may be 0; received '
        f'{text!r}')
  return tuple(share / sum(shares) for share in shares)


def split(
    source: source_lib.Source, shares: Sequence[float], seed: int
) -> dict[str, list[source_lib.Item]]:
  """Returns the items of every split, in random order.

  What the source says about splits is kept. A split that it lacks is taken
  from what it has for training: of every class the same share.

  Args:
    source: The data set.
    shares: Shares of train, validation and test, which add up to 1.
    seed: Seed of the choice and of the order.

  Raises:
    UsageError: If there is nothing to train on, or a class is too small.
  """
  given = {item.split for item in source.items} - {''}
  if given and any(not item.split for item in source.items):
    raise errors.UsageError(
        'splits: the source names a split for some images only, first not '
        f'for {next(i.name for i in source.items if not i.split)!r}')
  if given and TRAIN not in given:
    raise errors.UsageError(
        f'splits: the source has {" and ".join(sorted(given))}, but no train')
  rng = np.random.default_rng(seed)
  wanted = {name: share for name, share in zip(SPLITS, shares)
            if share and name not in given - {TRAIN}}
  chosen = {name: [i for i in source.items if i.split == name]
            for name in SPLITS if name in given}
  dealt = _deal(chosen.get(TRAIN, source.items), wanted, rng, source.classes)
  chosen |= dealt
  return {name: [chosen[name][i] for i in rng.permutation(len(chosen[name]))]
          for name in SPLITS if chosen.get(name)}


def _deal(items, wanted, rng, classes) -> dict[str, list[source_lib.Item]]:
  """Deals out the items of every class by the shares of the wanted splits."""
  labels = np.asarray([item.label for item in items], np.int64)
  total = sum(wanted.values())
  dealt = {name: [] for name in wanted}
  small = []
  for label in np.unique(labels):
    members = rng.permutation(np.flatnonzero(labels == label))
    if len(members) < len(wanted):
      small.append(f'{_name(classes, label)} ({len(members)})')
      continue
    count = len(members)
    for name in [name for name in wanted if name != TRAIN]:
      size = max(1, round(count * wanted[name] / total))
      dealt[name] += [items[i] for i in members[:size]]
      members = members[size:]
    if not members.size:
      small.append(f'{_name(classes, label)} (none left to train on)')
    dealt[TRAIN] += [items[i] for i in members]
  if small:
    raise errors.UsageError(
        f'splits: every class needs at least {len(wanted)} images for '
        f'{", ".join(wanted)}; too small: {_some(small)}')
  return dealt


def _name(classes: Sequence[str], label: int) -> str:
  return repr(classes[label]) if label < len(classes) else 'the set'


def _some(texts: Sequence[str], count: int = 10) -> str:
  more = f' and {len(texts) - count:,} more' if len(texts) > count else ''
  return ', '.join(texts[:count]) + more


def assert_classes(
    source: str, classes: Iterable[str], labels: Iterable[int]) -> None:
  """Raises `UsageError` for classes without images, and for a single class."""
  classes, present = list(classes), {*labels}
  empty = [repr(name) for i, name in enumerate(classes) if i not in present]
  if empty:
    raise errors.UsageError(
        f'source: {source!r} has no image of class {_some(empty)} '
        f'({len(empty)} of {len(classes)} classes); add images, or remove what '
        'is no class: an empty one is not left out silently')
  if len(classes) < 2:
    raise errors.UsageError(
        f'source: {source!r} has only one class, {classes[0]!r}, and a '
        'classifier needs two; a folder for every class is SOURCE/CLASS/IMAGE '
        'or SOURCE/SPLIT/CLASS/IMAGE')
