"""What a staged YAML describes: which trainings, in which order, from what.

    model: mobilenet_v2
    stages: [float, prune, cluster, qat, export, evaluate, benchmark, report]
    all: {...}      # overrides of every training
    prune: {...}    # overrides of one, also from its `config_file`

Only weights flow from stage to stage: each training starts from the best
checkpoint of the one before it, or of the one that `from` names.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import re
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs.reading import yaml_file
from modelgarden_opt.configs.schema import marks
from modelgarden_opt.pipeline import fields as fields_lib
from modelgarden_opt.pipeline import seeds

TRAININGS, MEASURES = fields_lib.TRAININGS, fields_lib.MEASURES
# Stands for the model in the path of a `config_file`.
_MODEL = '{model}'
# A stage's name is that of its run directory, beside these.
_NAME = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.-]*')
_TAKEN = ('all', 'complete', 'files', 'model', 'outdated', 'stages')
# The only ones of a stage that is a complete run.
_OF_RUN = ('run', 'kind', 'formats')
_OVERRIDES = fields_lib.OVERRIDES
# The one format that is no `.tflite` file: it is exported, not measured.
SAVED_MODEL = 'saved_model'


def default_formats(kind: str) -> list[str]:
  """Returns the formats in which the result of a training is exported."""
  return ['int8'] if kind == 'qat' else ['float32', 'int8']


@dataclasses.dataclass(frozen=True)
class Training:
  """One training stage.

  Attributes:
    name: Name of the stage and of its run directory.
    experiment: The registered experiment.
    source: Name of the stage whose best checkpoint it starts from, or None.
    teacher: Name of the stage that teaches it, or None.
    overrides: Overrides of the experiment.
    formats: Formats in which the result is exported.
    run: A run directory that is complete and takes the place of the training,
      empty for none.
  """
  name: str
  experiment: str
  source: str | None
  overrides: Mapping[str, Any]
  formats: Sequence[str]
  teacher: str | None = None
  run: str = ''

  @property
  def variants(self) -> dict[str, str]:
    """Names of the `.tflite` files, `<stage>_<format>`, by format."""
    return {form: f'{self.name}_{form}' for form in self.formats
            if form != SAVED_MODEL}


@dataclasses.dataclass(frozen=True)
class Pipeline:
  """Everything that a staged YAML describes.

  Attributes:
    trainings: The training stages, in order.
    measures: Names of the stages after them, in order.
    options: Options of these stages by name.
  """
  trainings: Sequence[Training]
  measures: Sequence[str]
  options: Mapping[str, Mapping[str, Any]]

  @property
  def variants(self) -> list[str]:
    """Names of all exported files."""
    return [name for training in self.trainings
            for name in training.variants.values()]


def parse(values: Mapping[str, Any]) -> Pipeline:
  """Returns the pipeline that the content of a YAML file describes.

  Args:
    values: The file's content.

  Raises:
    UsageError: One message with everything that is wrong with the stages.
  """
  problems = _problems_of_fields(values)
  if problems:
    raise errors.UsageError('\n'.join(problems))
  values = seeds.expand(values, MEASURES)
  names = _stage_names(values, problems)
  if problems:
    raise errors.UsageError('\n'.join(problems))
  trainings: dict[str, Training] = {}
  done: dict[str, tuple[str, ...]] = {}
  for name in names:
    if name not in MEASURES:
      _add_training(name, values, trainings, done, problems)
  options = {name: values.get(name) or {} for name in MEASURES}
  pipeline = Pipeline(list(trainings.values()),
                      [name for name in names if name in MEASURES], options)
  if 'names' in options['report']:
    problems += _problems_of_names(
        options['report']['names'], pipeline.variants)
  if problems:
    raise errors.UsageError('\n'.join(problems))
  return pipeline


def _problems_of_fields(values: Mapping[str, Any]) -> list[str]:
  """Checks the fields of all stages, each by itself."""
  names = values.get('stages')
  names = [name for name in names if isinstance(name, str)] if isinstance(
      names, list) else []
  problems = []
  for name in dict.fromkeys(('all', *names, *MEASURES)):
    block = values.get(name)
    kind = name if name in MEASURES or name == 'all' else fields_lib.TRAINING
    if isinstance(block, Mapping):
      problems += map(str, fields_lib.problems(
          name, kind, block, marks.mark_of(values, name, None)))
  return problems


def _problems_of_names(names: Any, variants: Sequence[str]) -> list[str]:
  """Checks what a report calls its variants."""
  if not isinstance(names, Mapping):
    return [f'report.names: expected `variant: name` pairs, received {names!r}']
  problems = [f'report.names.{variant}: no such variant'
              f'{errors.nearest(str(variant), variants)}'
              for variant in names if variant not in variants]
  problems += [
      f"report.names.{variant}: expected a name without '=', received "
      f'{name!r}'
      for variant, name in names.items()
      if not (isinstance(name, str) and name and '=' not in name)]
  shown = [names.get(variant, variant) for variant in variants]
  problems += [f'report.names.{variant}: {name!r} names two variants'
               for variant, name in names.items() if shown.count(name) > 1]
  return problems


def _stage_names(values: Mapping[str, Any], problems: list[str]) -> list[str]:
  """Returns the stages; checks the names of everything in the file."""
  model, names = values.get('model'), values.get('stages') or []
  if not isinstance(model, str) or model not in catalog.MODELS:
    problems.append(f'model: {marks.shown(model)} is not a model'
                    f'{errors.nearest(str(model), catalog.MODELS)}')
  if not names or not isinstance(names, list):
    problems.append(f'stages: expected a list of stages, received '
                    f'{marks.shown(marks.plain(names))}')
    return []
  unnamed = [name for name in names if not isinstance(name, str)]
  if unnamed:
    problems.append(f'stages: expected names, received '
                    f'{marks.shown(marks.plain(unnamed[0]))}')
    return []
  known = {'model', 'stages', 'all', *names, *MEASURES}
  problems += [f'{field}: no such stage{errors.nearest(field, known)}'
               for field in values if field not in known]
  problems += [
      f'stages: {name!r} names a directory, so it may hold letters, digits, '
      f'".", "_" and "-" only, and be none of {", ".join(_TAKEN)}'
      for name in names if not _NAME.fullmatch(str(name)) or name in _TAKEN]
  problems += [f'stages: {name} is there twice'
               for name in sorted(set(names)) if names.count(name) > 1]
  measures = [name for name in names if name in MEASURES]
  order = [name for name in MEASURES if name in measures]
  if names[len(names) - len(measures):] != order:
    problems.append(f'stages: {", ".join(order)} come last and in this order')
  for name, needed in zip(MEASURES[1:], MEASURES):
    if name in measures and needed not in measures and name != 'benchmark':
      problems.append(f'stages: {name} needs {needed}')
  problems += [
      f'{field}: expected `field: value` pairs, received {marks.shown(block)}'
      for field, block in values.items()
      if field not in ('model', 'stages') and not (
          block is None or isinstance(block, Mapping))]
  if problems:
    return []
  for name in names:
    block = values.get(name) or {}
    if name not in MEASURES and 'kind' not in block and (
        name not in TRAININGS):
      problems.append(
          f'{name}.kind: {_kind(name, block)!r} is not a kind of training'
          f'{errors.nearest(str(_kind(name, block)), TRAININGS)}')
  return names


def _kind(name: str, block: Mapping[str, Any]) -> str:
  return block.get('kind', name)


def _add_training(
    name: str,
    values: Mapping[str, Any],
    trainings: dict[str, Training],
    done: dict[str, tuple[str, ...]],
    problems: list[str],
) -> None:
  """Adds a training to those before it, and what it and they have done."""
  block = values.get(name) or {}
  run = block.get('run', '')
  if run:
    problems += [
        f'{name}.{field}: {run!r} is complete, so it cannot have this field'
        for field in block if field not in _OF_RUN]
  source = None if run else block.get(
      'from', next(reversed(trainings), None))
  if source is not None and source not in trainings:
    problems.append(f'{name}.from: {source!r} is not a training before it'
                    f'{errors.nearest(str(source), trainings)}')
    return
  overrides = {} if run else _overrides(name, values, problems)
  teacher = block.get('teacher')
  if teacher is not None:
    if teacher not in trainings:
      problems.append(f'{name}.teacher: {teacher!r} is not a training before it'
                      f'{errors.nearest(str(teacher), trainings)}')
      return
    overrides = merge(
        overrides, {'task': {'distillation': {'teacher': teacher}}})
  preserved = done.get(source, ()) if block.get('preserve', True) else ()
  kind = _kind(name, block)
  technique = TRAININGS[kind]
  order = list(TRAININGS.values())
  if any(order.index(technique) < order.index(t) for t in preserved):
    problems.append(f'{name}: {kind} would undo {preserved[-1]}; the order is '
                    f'{", ".join(TRAININGS)}')
    return
  techniques = tuple(t for t in order if t in (*preserved, technique) and t)
  if technique == 'clustering' and 'pruning' in preserved:
    # Zeros are one of the clusters, so no mask is needed.
    techniques = ('clustering',)
    overrides = merge(
        {'task': {'clustering': {'preserve_sparsity': True}}}, overrides)
  suffix = next(s for s, t in catalog.TECHNIQUES.items() if t == techniques)
  if technique == 'quantization' and 'clustering' in preserved:
    clusters = _clusters_of(trainings, source)
    if 'pruning' in techniques:
      clusters.pop('preserve_sparsity', None)  # The experiment says so.
    overrides = merge({'task': {'clustering': clusters}}, overrides)
  done[name] = preserved + ((technique,) if technique and not _removes_channels(
      overrides) else ())
  trainings[name] = Training(
      name, values['model'] + suffix, source, overrides,
      block.get('formats', default_formats(kind)), teacher, str(run))


def _overrides(
    name: str, values: Mapping[str, Any], problems: list[str]
) -> dict[str, Any]:
  """Returns the overrides of a training: of all, of its file and its own."""
  block = values.get(name) or {}
  overrides = values.get('all') or {}
  path = block.get('config_file')
  if path is not None:
    path = str(path).replace(_MODEL, values['model'])
    try:
      overrides = merge(overrides, yaml_file.load(path))
    except errors.UsageError as e:
      problems.append(f'{name}.{e}')
  return merge(
      overrides, marks.Marked(
          {k: v for k, v in block.items() if k in _OVERRIDES},
          getattr(block, 'marks', None)))


def _removes_channels(overrides: Mapping[str, Any]) -> bool:
  """Whether a stage prunes channels, which leaves no zeros to preserve."""
  return _block(overrides, 'pruning').get('granularity') == 'channel'


def _block(overrides: Mapping[str, Any], name: str) -> Mapping[str, Any]:
  """Returns a technique's block, empty where there is none (or no mapping)."""
  task = overrides.get('task')
  block = task.get(name) if isinstance(task, Mapping) else None
  return block if isinstance(block, Mapping) else {}


def _clusters_of(
    trainings: Mapping[str, Training], source: str) -> dict[str, Any]:
  """Returns what a later stage has to know of the clusters of an earlier one.
  """
  while not trainings[source].experiment.endswith('_clustering'):
    source = trainings[source].source
  block = _block(trainings[source].overrides, 'clustering')
  kept = ('number_of_clusters', 'cluster_per_channel', 'preserve_sparsity',
          'rules')
  return {k: block[k] for k in kept if k in block}


def merge(
    below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
  """Returns nested mappings put together; the second one wins.

  What knows where it was written still knows.
  """
  merged = marks.Marked(below, getattr(below, 'marks', None))
  for key, value in above.items():
    if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
      value = merge(merged[key], value)
    merged[key] = value
    merged.marks.pop(key, None)
    if (mark := marks.mark_of(above, key, None)) is not None:
      merged.marks[key] = mark
  return merged
