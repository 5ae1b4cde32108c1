"""`dataset.json`: what a data set is, beside its files."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.configs import data_set
from modelgarden_opt.data.importing import shards
from modelgarden_opt.data.importing import source as source_lib

NAME = data_set.DESCRIPTOR
PROBLEMS = 'problems.jsonl'
VERSION = 1


def describe(
    source: source_lib.Source, summaries: Sequence[shards.Summary],
    problems: Sequence[source_lib.Problem], origin: Mapping[str, Any],
) -> dict[str, Any]:
  """Returns the descriptor of a data set.

  Args:
    source: What was imported.
    summaries: Of its shards, in order.
    problems: All that is known of its files.
    origin: Where it comes from, and how it was split.

  Raises:
    UsageError: If a split or a class of the training data came out empty, or
      all masks are of one class.
  """
  splits = {summary.split: None for summary in summaries}
  counts = {split: _sum(s.labels for s in summaries if s.split == split)
            for split in splits}
  highest = max(map(int, _sum(counts.values())), default=0)
  classes = source.classes or tuple(map(str, range(highest + 1)))
  sizes = _sum(summary.sizes for summary in summaries)
  numbers = [tuple(map(int, size.split('x'))) for size in sizes]
  total = sum(summary.num_records for summary in summaries)
  num_examples = {
      split: sum(s.num_records for s in summaries if s.split == split)
      for split in splits}
  _assert_not_empty(source, num_examples, counts, classes)
  common = max(sizes, key=lambda size: (sizes[size], size))
  return {
      'version': VERSION,
      'task': source.task,
      'num_classes': len(classes),
      'classes': list(classes),
      'num_examples': num_examples,
      ('num_examples_of_class' if source.task == source_lib.CLASSIFICATION
       else 'num_pixels_of_class'): {
           split: [count.get(str(n), 0) for n in range(len(classes))]
           for split, count in counts.items()},
      'images': {
          'formats': dict(sorted(_sum(s.formats for s in summaries).items())),
          'height': [min(h for h, _ in numbers), max(h for h, _ in numbers)],
          'width': [min(w for _, w in numbers), max(w for _, w in numbers)],
          'most_common_size': [int(side) for side in common.split('x')],
          'mean_rgb': [round(sum(s.means[c] for s in summaries) / total, 3)
                       for c in range(3)],
      },
      'origin': dict(origin),
      'problems': dict(sorted(_sum(
          {p.kind: 1} for p in problems).items())),
      'files': {s.file: {'records': s.num_records, 'bytes': s.num_bytes,
                         'sha256': s.sha256} for s in summaries},
  }


def _sum(counts) -> dict[str, int]:
  total: dict[str, int] = {}
  for count in counts:
    for key, number in count.items():
      total[key] = total.get(key, 0) + number
  return total


def _assert_not_empty(source, num_examples, counts, classes) -> None:
  """Raises `UsageError` if nothing usable is left of a split or a class."""
  empty = [split for split, number in num_examples.items() if not number]
  if empty:
    raise errors.UsageError(
        f'source: no usable image is left for {" and ".join(empty)}')
  if source.task != source_lib.CLASSIFICATION:
    if len(classes) < 2:
      raise errors.UsageError(
          'source: the masks have no pixels but of class 0 and of the ignored '
          'value 255, and a network needs two classes; give the pixels of a '
          'class its number: 0, 1, ...')
    return
  lost = [repr(name) for number, name in enumerate(classes)
          if not counts['train'].get(str(number))]
  if lost:
    raise errors.UsageError(
        f'source: no usable image is left to train {", ".join(lost[:10])}')


def unused(
    source: source_lib.Source, summaries: Sequence[shards.Summary]
) -> list[source_lib.Problem]:
  """Returns what is strange about the numbers in masks without names."""
  if source.task != source_lib.SEGMENTATION or source.classes:
    return []
  present = {*map(int, _sum(summary.labels for summary in summaries))}
  highest = max(present, default=0)
  missing = [number for number in range(highest) if number not in present]
  return [source_lib.Problem(
      'masks', 'class_without_pixels', f'{len(missing)} of {highest + 1} '
      f'classes have no pixel, such as {missing[0]}; if {highest} is no class '
      f'but to be ignored, say --ignore_value={highest}', imported=True)
         ] if missing else []


def duplicates(
    summaries: Sequence[shards.Summary], classes: Sequence[str]
) -> list[source_lib.Problem]:
  """Returns images that are in two splits or classes, byte for byte."""
  first: dict[str, tuple[str, str, int]] = {}
  found = []
  for summary in summaries:
    for digest, name, label in summary.digests:
      split, other, number = first.setdefault(
          digest, (summary.split, name, label))
      if number != label:
        found.append(source_lib.Problem(
            name, 'two_classes', f'of {classes[label]!r}, is the same image as '
            f'{other} of {classes[number]!r}', imported=True))
      if split != summary.split:
        found.append(source_lib.Problem(
            name, 'duplicate', f'of {summary.split}, is the same image as '
            f'{other} of {split}', imported=True))
  return found
