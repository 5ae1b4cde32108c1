"""Finds what is wrong with any stage before the first one runs."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import os

from official.core import config_definitions as cfg
from official.core import task_factory
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import techniques
from modelgarden_opt.configs import overrides
from modelgarden_opt.configs import resolving
from modelgarden_opt.configs import run_files
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.channel_pruning import channel_search
from modelgarden_opt.modeling.channel_pruning import costs
from modelgarden_opt.modeling.state import checkpoints
from modelgarden_opt.pipeline import commands
from modelgarden_opt.pipeline import fields
from modelgarden_opt.pipeline import stages


def resolve(
    pipeline: stages.Pipeline, model_dir: str = '', imports: Sequence[str] = ()
) -> dict[str, cfg.ExperimentConfig]:
  """Returns the configuration of every training, by the stage's name.

  Args:
    pipeline: The pipeline.
    model_dir: Its directory. What is trained there may break rules that are
      younger, see `resolving.resolve`.
    imports: Modules that a flag named.

  Raises:
    UsageError: One message with everything that is wrong with any of them.
  """
  problems, configs = [], {}
  for training in pipeline.trainings:
    try:
      configs[training.name] = _of_run(training) if training.run else (
          overrides.resolve_values(
              training.experiment, {training.name: training.overrides}, imports,
              run=overrides.load_run(os.path.join(model_dir, training.name))
              if model_dir else None))
    except resolving.WrongConfiguration as e:
      problems += map(str, fields.of_stage(training.name, e.problems))
    except errors.UsageError as e:
      problems += [f'{training.name}: {line}' for line in str(e).splitlines()]
  _raise_if_any(problems)
  return configs


def _of_run(training: stages.Training) -> cfg.ExperimentConfig:
  """Returns the configuration of a run that takes the place of a training."""
  run_files.assert_run('run', training.run)
  path = os.path.join(training.run, run_files.PARAMS)
  name = overrides.load_yaml(path).get('task', {}).get('name')
  if name != training.experiment:
    raise errors.UsageError(
        f'run: {training.run!r} is a run of {name!r}, expected one of '
        f'{training.experiment!r}')
  checkpoints.resolve(commands.best_of(training.run), 'run')
  return overrides.resolve(name, [path], trained=True)


def assert_models(
    pipeline: stages.Pipeline, configs: Mapping[str, cfg.ExperimentConfig]
) -> None:
  """Builds the models of all trainings, without weights and without training.

  Args:
    pipeline: The pipeline.
    configs: What `resolve` returned.

  Raises:
    UsageError: One message with every stage whose model cannot be built or
      treated as configured, or has a rule that matches nothing.
  """
  problems, built = [], {}
  for training in pipeline.trainings:
    try:
      _build_and_compress(configs[training.name].task, built)
    except errors.UsageError as e:
      problems.append(f'{training.name}: {e}')
  # What the first training starts from is missed at once.
  for training in pipeline.trainings[1:]:
    for field, path in _checkpoints(training, configs[training.name].task):
      try:
        checkpoints.resolve(path, f'task.{field}')
      except errors.UsageError as e:
        problems.append(f'{training.name}: {e}')
  _raise_if_any(problems)


def _raise_if_any(problems: list[str]) -> None:
  if problems:
    raise errors.UsageError('\n'.join(problems))


def _build_and_compress(config, built: dict[str, tf_keras.Model]) -> None:
  """Builds the model of one training; float models are shared by stages."""
  key = str(config.model.as_dict())
  if key not in built:
    built[key] = task_factory.get_task(
        config.without_techniques()).build_model()
  model = built[key]
  if config.pruning is not None and config.pruning.of_channels:
    _prune_channels(model, config.pruning)
  factory.compress(model, *techniques.blocks_of(config).values())


def _prune_channels(model: tf_keras.Model, config) -> None:
  """Removes channels of a model without weights: which ones does not matter."""
  if config.target not in costs.COSTS:  # Or it would be replaced below.
    raise errors.UsageError(
        f'task.pruning.target: {config.target!r} is not registered'
        f'{errors.nearest(config.target, costs.COSTS)}')
  target = 'flops' if config.target == 'latency' else config.target
  channel_search.prune(
      factory.neutral(model),
      config.replace(importance='magnitude', target=target), lambda: ())


def _checkpoints(
    training: stages.Training, config) -> Iterator[tuple[str, str]]:
  """Yields fields and paths of the checkpoints that a stage names by itself."""
  paths = {'init_checkpoint': config.init_checkpoint}
  for name, block in techniques.blocks_of(config).items():
    paths[f'{name}.pretrained_original_checkpoint'] = (
        block.pretrained_original_checkpoint)
  if training.source:
    del paths['.'.join(filter(None, commands.checkpoint_field(
        training.experiment)))]
  yield from ((field, path) for field, path in paths.items() if path)
