"""Which layers a technique shall leave alone, as the rules of its block.

Layers that cost most are left in float one after the other, until the model
loses no more than is allowed. A file computes a single op between integers on
integers, whatever a rule says: so what is left in float is a block, or an op
with its neighbour.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import time
from typing import Any

import yaml

from modelgarden_opt.analysis import records
from modelgarden_opt.analysis import sensitivity
from modelgarden_opt.analysis import study as study_lib
from modelgarden_opt.compression import internals
from modelgarden_opt.evaluation import paired
from modelgarden_opt.tasks import run_directory

# Exceptions that are tried, each by one inference of all images.
_MOST_TRIED = 16
_EIGHT_BITS = 8
# Of the kernels, at most this share is left alone by pruning and clustering:
# without training, both cost every kernel something.
_MOST_DENSE = 0.25
_WILDCARD = '*'

Rule = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Unit:
  """Layers that are left in float together.

  Attributes:
    paths: Globs that match them.
    members: Their paths.
  """
  paths: tuple[str, ...]
  members: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Exceptions:
  """What shall not be quantized like the rest.

  Attributes:
    rules: Rules for it, in their order.
    before: What the quantized model loses without them.
    after: What it loses with them.
  """
  rules: tuple[Rule, ...]
  before: paired.Difference
  after: paired.Difference


def of_quantization(
    study: study_lib.Study,
    found: sensitivity.Sensitivity,
    max_drop: float,
    deadline: float | None = None,
) -> Exceptions:
  """Returns the layers that cost the quantized model more than is allowed.

  Kernels of fewer bits get 8 first. An exception is kept if the model loses
  less with it.

  Args:
    study: The model.
    found: How sensitive its layers are.
    max_drop: What it may lose, in [0, 1]. A loss whose interval includes zero
      counts as none.
    deadline: Value of `time.monotonic()` at which nothing more is tried.
  """
  before = after = study.judge.difference(study.floats, study.quantized)
  floats: frozenset[str] = frozenset()
  bits: dict[str, int] = {}
  rules: list[Rule] = []
  for action in _actions(study, found)[:_MOST_TRIED]:
    if after.value <= max_drop or after.low <= 0:
      break
    if deadline is not None and time.monotonic() > deadline:
      break
    tried = (floats | action.floats, {**bits, **action.bits})
    loss = study.loss(*tried)
    if loss.value < after.value:
      after, (floats, bits) = loss, tried
      rules += action.rules
  return Exceptions(tuple(rules), before, after)


@dataclasses.dataclass(frozen=True)
class _Action:
  rules: tuple[Rule, ...]
  floats: frozenset[str] = frozenset()
  bits: Mapping[str, int] = dataclasses.field(default_factory=dict)


def _actions(
    study: study_lib.Study, found: sensitivity.Sensitivity) -> list[_Action]:
  """Returns exceptions to be tried, those of more bits first."""
  kernels = study.probe.kernels
  costs: dict[str, tuple[float, float]] = {}
  raised: dict[str, tuple[float, float]] = {}
  for record in found.records:
    if record.technique != 'quantization':
      continue
    if record.parameter == _EIGHT_BITS:
      costs[record.layer] = record.rank
    elif record.layer in kernels and (
        kernels[record.layer].bits == record.parameter):
      raised[record.layer] = record.rank
  for gain in found.gains:
    if gain.gain_low > 0:
      costs[gain.layer] = max(
          costs.get(gain.layer, (0.0, 0.0)), (gain.gain, 0.0))
  actions = [
      _Action(({'path': path, 'num_bits_weight': _EIGHT_BITS},),
              bits={path: _EIGHT_BITS})
      for path in sorted(raised, key=raised.get, reverse=True)]
  by_unit: dict[Unit, tuple[float, float]] = {}
  units = units_of(study)
  for path, cost in costs.items():
    unit = units[path]
    by_unit[unit] = max(by_unit.get(unit, cost), cost)
  return actions + [
      _Action(tuple({'path': glob, 'enabled': False} for glob in unit.paths),
              floats=unit.members)
      for unit in sorted(by_unit, key=by_unit.get, reverse=True)]


def units_of(study: study_lib.Study) -> dict[str, Unit]:
  """Returns what is left in float with each quantized layer, by path."""
  paths = [path for path in dict.fromkeys(
      getattr(layer, 'path', '')
      for layer in internals.layers_of(study.subject.run.model))
           if path in study.probe.paths]
  paths += [path for path in study.probe.paths if path not in paths]
  names = list(dict.fromkeys(map(_unit_name, paths)))
  members = {name: frozenset(path for path in paths
                             if _unit_name(path) == name) for name in names}
  units = {}
  for index, name in enumerate(names):
    together = [name]
    single = sum(path in study.probe.kernels for path in members[name]) < 2
    # The first op reads the image, which is float.
    if single and index:
      together.append(names[index + 1 if index + 1 < len(names) else index - 1])
    unit = Unit(
        tuple(glob for one in together for glob in _globs(one, members[one])),
        frozenset().union(*(members[one] for one in together)))
    units.update(dict.fromkeys(members[name], unit))
  return units


def _unit_name(path: str) -> str:
  """Returns the block that a layer is in, or the layer."""
  parts = path.split('/')
  return '/'.join(parts[:2]) if len(parts) > 2 else path


def _globs(name: str, members: frozenset[str]) -> list[str]:
  whole = [name] if name in members else []
  return whole + [f'{name}/{_WILDCARD}'] * any(path != name for path in members)


def of_kernels(
    found: Sequence[records.Record], technique: str, parameter: float,
    max_drop: float,
) -> list[Rule]:
  """Returns rules for the kernels that pruning or clustering costs most.

  At most a quarter of them, and only those that lose more than is allowed
  beyond doubt.

  Args:
    found: Records of all techniques.
    technique: `pruning` or `clustering`.
    parameter: Of the technique: what the block asks for.
    max_drop: What one kernel may cost, in [0, 1].
  """
  of_it = sensitivity.rank([
      record for record in found
      if (record.technique, record.parameter) == (technique, parameter)])
  most = int(_MOST_DENSE * len(of_it))
  return [{'path': record.layer, 'enabled': False} for record in of_it[:most]
          if record.drop_low > 0 and record.drop > max_drop]


def parameter_of(
    run: run_directory.Run, technique: str, measured: Sequence[float]
) -> float | None:
  """Returns the measured parameter that is nearest to what a block asks for.

  Without a block, the block's default.

  Args:
    run: The run.
    technique: `pruning` or `clustering`.
    measured: What was measured.
  """
  block = getattr(run.params.task, technique, None)
  wanted = {'pruning': 0.5, 'clustering': 16}[technique]
  if block is not None:
    wanted = (block.target_sparsity if technique == 'pruning'
              else block.number_of_clusters)
  return min(measured, key=lambda value: abs(value - wanted), default=None)


def own_rules(run: run_directory.Run, technique: str) -> list[Rule]:
  """Returns the rules that a run's block has already."""
  block = run_directory.as_plain(run.params)['task'].get(technique) or {}
  return [{name: value for name, value in rule.items()
           if value is not None and value != _WILDCARD}
          for rule in block.get('rules', ())]


def to_yaml(
    technique: str, rules: Sequence[Rule], comment: Sequence[str]) -> str:
  """Returns rules as a file that `--config_file` and others read.

  Args:
    technique: Name of the block.
    rules: Its rules.
    comment: Lines to begin with.
  """
  lines = [f'# {line}' for line in comment]
  lines += ['task:', f'  {technique}:']
  if not rules:
    return '\n'.join([*lines, '    rules: []', ''])
  lines.append('    rules:')
  lines += ['    - ' + yaml.safe_dump(
      dict(rule), default_flow_style=True, sort_keys=False,
      width=10**6).strip() for rule in rules]
  return '\n'.join([*lines, ''])
