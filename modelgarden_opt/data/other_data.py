"""Another data set in the place of one of a task's splits."""

import dataclasses
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.configs import data_set
from modelgarden_opt.data import class_names


def use(config: Any, name: str, split: str) -> list[str]:
  """Lets a task read a split of another data set, preprocessed as its own.

  Args:
    config: The configuration of a task; changed in place.
    name: A directory that `data import` wrote, or the name of an embedded set.
    split: `train`, `validation` or `test`.

  Returns:
    What a reader of the results has to know.

  Raises:
    UsageError: If there is no such set or split, or its classes do not fit.
  """
  try:
    found = data_set.read(name)
  except errors.UsageError as e:
    raise errors.UsageError(str(e).replace('task.data:', 'data:', 1)) from None
  if split not in found.num_examples:
    raise errors.UsageError(
        f'split: {name!r} has no {split!r}'
        f'{errors.nearest(split, found.num_examples)}')
  of_pixels = hasattr(config.validation_data, 'resize_eval_groundtruth')
  if (found.task == 'semantic_segmentation') != of_pixels:
    raise errors.UsageError(
        f'data: {name!r} is of {found.task}, the run is of another task')
  if len(found.classes) > config.model.num_classes:
    raise errors.UsageError(
        f'data: {name!r} has {len(found.classes)} classes, the model of the '
        f'run has {config.model.num_classes}')
  names = class_names.of(config) or found.classes
  field = f'{split}_data'
  base = getattr(config, field, None) or config.validation_data
  known = {f.name for f in dataclasses.fields(base)}
  with_fields = {k: v for k, v in found.split(split).items() if k in known}
  config.override({field: base.replace(**with_fields).as_dict()})
  different = [pair for pair in zip(names, found.classes) if pair[0] != pair[1]]
  return [] if not different else [
      'the classes of the run are called otherwise, so labels may not mean the '
      'same: {!r} is {!r} in the data'.format(*different[0])]
