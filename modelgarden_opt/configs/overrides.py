"""Applies YAML overrides to an experiment; reports every error at once."""

from collections.abc import Mapping
from collections.abc import Sequence
import difflib
import re
import types
import typing
from typing import Any

from official.core import config_definitions as cfg
from official.core import exp_factory
from official.modeling import hyperparams
from official.modeling.hyperparams import oneof
from official.modeling.hyperparams import params_dict
import tensorflow as tf
import yaml

from modelgarden_opt import errors
from modelgarden_opt import techniques
from modelgarden_opt import user_modules
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import checks
from modelgarden_opt.configs import compressed
from modelgarden_opt.configs import data_set
from modelgarden_opt.configs import pruning as pruning_cfg
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.configs import shipped

# Name of the resolved configuration in a run directory.
RUN_PARAMS = 'params.yaml'
# Names of experiments that an error lists.
_MAX_NEAREST = 5


class _Loader(yaml.SafeLoader):
  """YAML as the Model Garden reads it: `1e-3` is a number."""


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float',
    re.compile(r'^[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)$'),
    list('-+0123456789.'))


def resolve(
    experiment: str,
    config_files: Sequence[str] = (),
    params_override: str | None = None,
    imports: Sequence[str] = (),
) -> cfg.ExperimentConfig:
  """Returns a validated experiment configuration.

  Args:
    experiment: Name of a registered experiment.
    config_files: YAML files, applied in order.
    params_override: YAML, JSON or `a.b=1,c=2` string (or a YAML file's path),
      applied last.
    imports: Modules to import beside those that `task.imports` names.

  Raises:
    UsageError: One message with every unknown field, wrong type and broken
      rule of all files together.
  """
  sources = {path: load_yaml(path) for path in config_files}
  if params_override:
    sources['--params_override'] = parse_override(params_override)
  return resolve_values(experiment, sources, imports)


def resolve_values(
    experiment: str,
    sources: Mapping[str, Mapping[str, Any]],
    imports: Sequence[str] = (),
) -> cfg.ExperimentConfig:
  """Returns a validated experiment configuration.

  Args:
    experiment: Name of a registered experiment.
    sources: Overrides in the order of their application, by the name that
      messages call them.
    imports: Modules to import beside those that `task.imports` names.

  Raises:
    UsageError: One message with everything that is wrong.
  """
  modules = list(dict.fromkeys(
      [*imports, *(m for v in sources.values() for m in _imports_of(v))]))
  user_modules.load(modules, 'task.imports')
  config = base(experiment)
  # A run directory knows by this name which configuration classes it holds.
  config.task.name = experiment
  problems = []
  right = {}
  for name, values in sources.items():
    found = check(config, values)
    problems += [f'{name}: {problem}' for problem in found]
    if not found:
      right[name] = values
  try:
    _apply(config, list(right.values()))
  except errors.UsageError as e:
    problems.append(str(e))
  config.task.imports = modules
  return finish(config, problems)


def _imports_of(values: Mapping[str, Any]) -> list[str]:
  """Returns the modules that overrides name, none if they are no names."""
  task = values.get('task')
  found = task.get('imports') if isinstance(task, Mapping) else None
  return [m for m in found if isinstance(m, str)] if isinstance(
      found, list) else []


def _apply(
    config: cfg.ExperimentConfig, sources: Sequence[Mapping[str, Any]]
) -> None:
  """Applies overrides, and what `task.data` among them stands for.

  Raises:
    UsageError: If the data set that it names is not there.
  """
  *before, last = data_set.expand(config, sources)
  for expanded, values in zip(before, sources):
    config.override(expanded, is_strict=True)
    config.override(values, is_strict=True)
  if last:
    test_data = last['task'].pop('test_data')
    config.override(last, is_strict=True)
    config.task.test_data = test_data and config.task.validation_data.replace(
        **test_data)


def base(experiment: str) -> cfg.ExperimentConfig:
  """Returns the configuration that is registered under a name.

  Raises:
    UsageError: If there is none, or it is of a task of the Model Garden's that
      is not one of this framework.
  """
  try:
    config = exp_factory.get_exp_config(experiment)
  except LookupError:
    raise errors.UsageError(_unknown(experiment, 'is not registered')) from None
  if not isinstance(config.task, compressed.CompressedTask):
    raise errors.UsageError(_unknown(
        experiment, "is the Model Garden's own, which has no techniques"))
  return config


def _unknown(experiment: str, what: str) -> str:
  """Says what to do about the name of an experiment, in one line."""
  every = (f'`modelgarden-opt list` names all {len(catalog.EXPERIMENTS)}')
  task = next((task for word, task in catalog.OTHER_TASKS.items()
               if word in experiment.lower()), None)
  if task is not None:
    supported = sorted({model.task for model in catalog.MODELS.values()})
    return (f'experiment: {experiment!r} is about {task}, which is not '
            f'supported yet; {" and ".join(supported)} are: {every}')
  near = [name for name, model in catalog.MODELS.items()
          if model.base == experiment][:_MAX_NEAREST]
  near = near or difflib.get_close_matches(
      experiment, catalog.EXPERIMENTS, n=_MAX_NEAREST, cutoff=0.5)
  hint = f'; did you mean {", ".join(map(repr, near))}?' if near else ';'
  return f'experiment: {experiment!r} {what}{hint} {every}'


def finish(
    config: cfg.ExperimentConfig, problems: Sequence[str] = ()
) -> cfg.ExperimentConfig:
  """Returns the configuration, locked, if nothing is wrong with it.

  Args:
    config: A configuration with all overrides applied.
    problems: What was found wrong with the overrides.

  Raises:
    UsageError: If there are problems or the values break a rule.
  """
  problems = [*problems, *semantic_problems(config)]
  if not problems:
    try:
      config.validate()
    except KeyError as e:
      problems.append(f'restriction {e}')
  if problems:
    raise errors.UsageError('\n'.join(problems))
  config.lock()
  return config


def load_yaml(path: str) -> dict[str, Any]:
  """Returns a YAML file as a dictionary.

  Args:
    path: The file. Shipped ones are found as `configs/...` from everywhere.

  Raises:
    UsageError: If it is missing, not YAML, or not a mapping.
  """
  path = shipped.locate(path)
  if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
    raise errors.UsageError(f'config_file: there is no file {path!r}')
  with tf.io.gfile.GFile(path) as f:
    return _parse_yaml(f.read(), path)


def _parse_yaml(text: str, name: str) -> dict[str, Any]:
  try:
    values = yaml.load(text, Loader=_Loader)
  except yaml.YAMLError as e:
    raise errors.UsageError(f'{name}: not valid YAML: {e}') from None
  if values is None:
    return {}
  if not isinstance(values, dict):
    raise errors.UsageError(
        f'{name}: expected `field: value` pairs, received {values!r}')
  return values


def parse_override(text: str) -> dict[str, Any]:
  """Returns what `--params_override` says, see `resolve`.

  Raises:
    UsageError: If it is not YAML, or not a mapping.
  """
  try:
    text = params_dict.nested_csv_str_to_json_str(text)
  except ValueError:
    pass
  if text.endswith(('.yaml', '.yml', '.json')) and ':' not in text:
    return load_yaml(text)
  return _parse_yaml(text, '--params_override')


def check(
    config: hyperparams.Config, values: Mapping[str, Any], path: str = ''
) -> list[str]:
  """Returns one line for every field that cannot be overridden as written.

  Args:
    config: The configuration to be overridden.
    values: The overrides.
    path: Name of `config` in messages, with a dot after it.
  """
  if getattr(config, 'TAKES_ANY_FIELD', False):
    return _unreadable(config, values, path)
  fields = [f for f in config.__dict__ if f not in config.RESERVED_ATTR]
  hints = typing.get_type_hints(type(config))
  problems = []
  for name, value in values.items():
    if name not in fields:
      problems.append(f'{path}{name}: no such field'
                      f'{errors.nearest(str(name), fields)}')
      continue
    if isinstance(config, oneof.OneOfConfig) and name == 'type':
      choices = [f for f in fields if f != 'type']
      if value is not None and value not in choices:
        problems.append(f'{path}type: {value!r} is not a choice'
                        f'{errors.nearest(str(value), choices)}')
      continue
    problems += _check_value(
        getattr(config, name), value, hints.get(name, Any), path + name)
  return problems


def _unreadable(
    config: hyperparams.Config, values: Mapping[str, Any], path: str
) -> list[str]:
  """Checks fields of any name: a configuration has no lists of lists."""
  try:
    type(config)().override(dict(values))
  except (TypeError, KeyError) as e:
    return [f'{path.rstrip(".")}: {e}']
  return []


def _check_value(current: Any, value: Any, hint: Any, path: str) -> list[str]:
  """Checks one override against the present value and the annotation."""
  kinds = _alternatives(hint)
  config_types = [k for k in kinds if isinstance(k, type) and
                  issubclass(k, hyperparams.Config)]
  if isinstance(value, Mapping):
    if isinstance(current, hyperparams.Config):
      return check(current, value, path + '.')
    if config_types and config_types[0] is not hyperparams.Config:
      return check(config_types[0](), value, path + '.')
    if config_types or Any in kinds or hint is Any:
      return []
    return [f'{path}: expected {_name(kinds)}, received a mapping']
  if isinstance(value, list):
    element = next((typing.get_args(k)[0] for k in kinds
                    if typing.get_args(k)), Any)
    if isinstance(element, type) and issubclass(element, hyperparams.Config):
      return [problem for index, item in enumerate(value)
              for problem in _check_value(
                  None, item, element, f'{path}[{index}]')]
  if value is None or Any in kinds or _is_instance(value, kinds):
    return []
  return [f'{path}: expected {_name(kinds)}, received {value!r} '
          f'({type(value).__name__})']


def _alternatives(hint: Any) -> list[Any]:
  """Returns the members of a union, or the annotation alone."""
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    return [m for a in typing.get_args(hint) for m in _alternatives(a)
            if m is not type(None)]
  return [hint]


def _is_instance(value: Any, kinds: Sequence[Any]) -> bool:
  for kind in kinds:
    kind = typing.get_origin(kind) or kind
    if not isinstance(kind, type):
      return True
    if kind is float and type(value) in (int, float):
      return True
    if kind is int and type(value) is int:
      return True
    if kind not in (int, float) and isinstance(value, kind):
      return True
    if issubclass(kind, (Sequence, tuple)) and kind is not str and isinstance(
        value, (list, tuple)):
      return True
  return False


def _name(kinds: Sequence[Any]) -> str:
  return ' or '.join(getattr(k, '__name__', str(k)) for k in kinds)


def semantic_problems(config: cfg.ExperimentConfig) -> list[str]:
  """Returns one line for every rule that values break together."""
  task = config.task
  problems = []
  blocks = techniques.blocks_of(task)
  for name, block in blocks.items():
    problems += [f'task.{name}.{p}'
                 for p in block.problems(config.trainer.train_steps)]
  problems += _problems_together(config, blocks)
  runtime_problems = getattr(config.runtime, 'problems', list)
  problems += [f'runtime.{p}' for p in runtime_problems()]
  problems += [f'trainer.{p}' for p in _trainer_problems(config.trainer)]
  if getattr(task, 'distillation', None) is not None:
    problems += _distillation_problems(task)
  model_problems = getattr(getattr(task, 'model', None), 'problems', list)
  problems += [f'task.model.{p}' for p in model_problems()]
  if getattr(task, 'export', None) is not None:
    problems += [f'task.export.{p}' for p in task.export.problems()]
  for name in ('train_data', 'validation_data', 'test_data'):
    data = getattr(task, name, None)
    if data is not None:
      problems += [f'task.{name}.{p}' for p in _data_problems(data)]
  return problems


def _distillation_problems(task: cfg.TaskConfig) -> list[str]:
  """Checks the block, and that the task has classes to be taught."""
  problems = [f'task.distillation.{p}' for p in task.distillation.problems()]
  if getattr(task.train_data, 'is_multilabel', False):
    problems.append('task.distillation: cannot be combined with '
                    'train_data.is_multilabel: its labels are no distribution')
  return problems


def _problems_together(
    config: cfg.ExperimentConfig, blocks: Mapping[str, Any]) -> list[str]:
  """Checks what techniques cannot be combined with."""
  problems = []
  if 'quantization' in blocks:
    problems += [f'task.model.{p}' for p in _not_quantizable(config.task.model)]
    dtype = config.runtime.mixed_precision_dtype
    if dtype not in (None, 'float32'):
      problems.append(
          f'runtime.mixed_precision_dtype: {dtype!r} cannot be combined with '
          'quantization: activation ranges need float32; use null or float32')
  problems += block_problems(blocks, 'task.')
  ema = config.trainer.optimizer_config.ema
  quantization = blocks.get('quantization')
  counts = quantization and quantization.oscillation != quantization_cfg.NONE
  if ema is not None and not ema.trainable_weights_only and (counts or {
      'pruning', 'clustering'} & blocks.keys()):
    problems.append(
        'trainer.optimizer_config.ema.trainable_weights_only: must be true '
        'with pruning, clustering and oscillation, received false: masks, '
        'tables and integers have no average')
  return problems


def block_problems(blocks: Mapping[str, Any], prefix: str) -> list[str]:
  """Returns one line for every rule that blocks of techniques break together.

  Args:
    blocks: The blocks by the techniques' names.
    prefix: What names of fields begin with in messages.
  """
  pruning, quantization = blocks.get('pruning'), blocks.get('quantization')
  problems = []
  if 'clustering' in blocks:
    problems += [
        f'{prefix}quantization.{name}: scales the channels of a kernel by '
        'different factors, which takes clusters apart; received true with '
        'clustering, use false'
        for name in ('fold_batch_norm', 'cross_layer_equalization')
        if getattr(quantization, name, False)]
    if getattr(quantization, 'rounds_adaptively', False):
      problems.append(
          f'{prefix}quantization.rounding: adaround rounds weights of one '
          'cluster differently; use nearest with clustering')
    if getattr(quantization, 'oscillation', '') == quantization_cfg.FREEZE:
      problems.append(
          f'{prefix}quantization.oscillation: freeze would take single weights '
          'out of their clusters; use dampen or none with clustering')
  if pruning is None or pruning.of_channels or (
      pruning.pruning_schedule == pruning_cfg.PRESERVE):
    return problems
  beside = [name for name, found in (
      ('clustering', 'clustering' in blocks),
      ('quantization.training: false',
       quantization is not None and not quantization.training)) if found]
  return problems + [
      f'{prefix}pruning.pruning_schedule: must be Preserve with '
      f'{name}, received {pruning.pruning_schedule!r}; prune in a '
      'separate run, and start from its checkpoint' for name in beside]


def _trainer_problems(trainer: cfg.TrainerConfig) -> list[str]:
  """Checks what decides the best checkpoint and when learning ends."""
  problems = checks.unless_one_of(
      'best_checkpoint_metric_comp', trainer.best_checkpoint_metric_comp,
      ('higher', 'lower'))
  rate = trainer.optimizer_config.learning_rate
  schedule = rate.get() if rate.type in _ENDING_AT_ZERO else None
  if schedule and not getattr(schedule, _ENDING_AT_ZERO[rate.type]) and not (
      getattr(schedule, 'cycle', False)):
    steps, last = trainer.train_steps, schedule.decay_steps
    if steps > last:
      problems.append(
          f'train_steps: {steps} is after learning_rate.{rate.type}.'
          f'decay_steps {last}, so {steps - last} steps would train at rate 0; '
          'raise decay_steps or lower train_steps')
  return problems


# Schedules whose rate is this field's value after `decay_steps`.
_ENDING_AT_ZERO = {'cosine': 'alpha', 'polynomial': 'end_learning_rate'}


def _not_quantizable(model: hyperparams.Config) -> list[str]:
  """Checks the options of segmentation models that have no twin."""
  problems = []
  decoder = getattr(model, 'decoder', None)
  if decoder is not None and decoder.type not in ('aspp', 'identity'):
    problems.append(f'decoder.type: {decoder.type!r} cannot be quantized; '
                    'aspp and identity can')
  if getattr(model, 'mask_scoring_head', None) is not None:
    problems.append('mask_scoring_head: cannot be quantized; use null')
  head = getattr(model, 'head', None)
  if getattr(head, 'feature_fusion', None) == 'panoptic_fpn_fusion':
    problems.append("head.feature_fusion: 'panoptic_fpn_fusion' cannot be "
                    'quantized (its group normalization has no integer op in '
                    'TFLite); deeplabv3plus, deeplabv3plus_sum_to_merge, '
                    'pyramid_fusion and null can')
  return problems


def _data_problems(data: cfg.DataConfig) -> list[str]:
  """Checks which source of data one split names."""
  name = getattr(data, 'embedded_name', '')
  problems = []
  if data.tfds_name and data.input_path:
    problems.append(f'tfds_name: cannot be combined with input_path '
                    f"{data.input_path!r}; set input_path: ''")
  if not name:
    return problems
  if name not in catalog.DATA_SETS:
    problems.append(f'embedded_name: {name!r} is not embedded'
                    f'{errors.nearest(name, catalog.DATA_SETS)}')
  if data.embedded_split not in catalog.SPLITS:
    problems.append(f'embedded_split: {data.embedded_split!r} is not a split'
                    f'{errors.nearest(data.embedded_split, catalog.SPLITS)}')
  return problems
