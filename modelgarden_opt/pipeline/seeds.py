"""Trainings that are repeated with several seeds."""

from collections.abc import Mapping
from collections.abc import Sequence
import copy
from typing import Any

from modelgarden_opt import errors

FIELD = 'seeds'


def expand(
    values: Mapping[str, Any], measures: Sequence[str]) -> dict[str, Any]:
  """Returns a pipeline in which `seeds: [1, 2]` of a stage are two stages.

  They are named `<stage>_seed1` and `<stage>_seed2`, and `train_data.seed` is
  their seed. Each starts from what the stage names in `from`, or from the
  training before it; if that is repeated as well, from the one of its own seed.

  Args:
    values: The content of a pipeline's YAML file.
    measures: Names of the stages that train nothing.

  Raises:
    UsageError: If seeds are no list of distinct integers >= 0, or a stage
      starts from one that is repeated with other seeds.
  """
  names = values.get('stages')
  if not isinstance(names, list):
    return dict(values)
  seeds = {name: values[name][FIELD] for name in names
           if isinstance(name, str) and isinstance(values.get(name), Mapping)
           and FIELD in values[name]}
  if not seeds:
    return dict(values)
  problems = [
      f'{name}.{FIELD}: expected a list of different integers >= 0, received '
      f'{given!r}' for name, given in seeds.items() if not _right(given)]
  if problems:
    raise errors.UsageError('\n'.join(problems))
  expanded = {key: value for key, value in values.items() if key not in seeds}
  expanded['stages'], before = [], None
  for name in names:
    block = values.get(name) or {}
    if name in measures or not isinstance(block, Mapping):
      expanded['stages'].append(name)
      continue
    source = block.get('from', before)
    before = name
    if source in seeds and seeds.get(name) != seeds[source]:
      problems.append(
          f'{name}.{FIELD}: must be those of {source}, {seeds[source]}, from '
          f'which it starts, received {seeds.get(name)}')
    elif name not in seeds:
      expanded['stages'].append(name)
      if source is not None:
        expanded[name] = {**block, 'from': source}
    else:
      for seed in seeds[name]:
        repeated = f'{name}_seed{seed}'
        expanded['stages'].append(repeated)
        expanded[repeated] = _stage(name, block, seed, (
            f'{source}_seed{seed}' if source in seeds else source))
  if problems:
    raise errors.UsageError('\n'.join(problems))
  return expanded


def _right(given: Any) -> bool:
  return (isinstance(given, list) and bool(given) and
          all(type(seed) is int and seed >= 0 for seed in given) and
          len(set(given)) == len(given))


def _stage(
    name: str, block: Mapping[str, Any], seed: int, source: str | None
) -> dict[str, Any]:
  """Returns the block of a repeated stage."""
  stage = copy.deepcopy({k: v for k, v in block.items() if k != FIELD})
  stage.setdefault('kind', name)
  if source is not None:
    stage['from'] = source
  task = stage.get('task') or {}
  data = task.get('train_data') if isinstance(task, Mapping) else {}
  if isinstance(task, Mapping) and isinstance(data, (Mapping, type(None))):
    task['train_data'] = {**(data or {}), 'seed': seed}
  stage['task'] = task  # Of another type, it is told with the other fields.
  return stage
