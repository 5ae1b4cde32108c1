"""The YAML text of a recipe, with comments for the one who changes it."""

from collections.abc import Mapping
import dataclasses
import pathlib
import shlex
import string
import textwrap
from typing import Any

import yaml

from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import overrides
from modelgarden_opt.recipes import goals
from modelgarden_opt.recipes import recipe as recipe_lib

# Images below this size are moved and scaled instead of cropped.
SMALL = 64
_EVALUATIONS = 10
# Type of a backbone -> its field that multiplies all numbers of channels.
_WIDTHS = {'mobilenet': 'filter_size_scale', 'resnet': 'depth_multiplier'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
  """What a configuration is made of.

  Attributes:
    data: Name of an embedded data set, or a directory with a `dataset.json`.
    called: What a heading calls it.
    model: Key of `catalog.MODELS`.
    goal: Key of `goals.GOALS`.
    device: Key of `goals.DEVICES`.
    width: Width multiplier of the backbone, if it has one.
    small_images: Whether the images are smaller than what models are made for.
    mirrored: Whether mirrored images are of the same class.
  """
  data: str
  called: str
  model: str
  goal: str
  device: str
  width: float
  small_images: bool
  mirrored: bool


def task_fields(choice: Choice, recipe: recipe_lib.Recipe) -> dict[str, Any]:
  """Returns the overrides of the task, but for the name of its data."""
  side = recipe.image_size
  model: dict[str, Any] = {'input_size': [side, side, 3]}
  if has_width(choice.model):
    kind = _backbone(choice.model)
    model['backbone'] = {kind: {_WIDTHS[kind]: choice.width}}
  model['norm_activation'] = {'norm_momentum': recipe.norm_momentum}
  train: dict[str, Any] = {'global_batch_size': recipe.batch_size}
  evaluate: dict[str, Any] = {'global_batch_size': recipe.batch_size}
  if catalog.MODELS[choice.model].task == 'semantic_segmentation':
    model['norm_activation']['use_sync_bn'] = False
    train |= {'output_size': [side, side], 'aug_rand_hflip': choice.mirrored}
    evaluate |= {'output_size': [side, side], 'drop_remainder': False,
                 'resize_eval_groundtruth': True, 'groundtruth_padded_size': []}
    return {'model': model, 'train_data': train, 'validation_data': evaluate,
            'test_data': evaluate}
  model['dropout_rate'] = 0.1
  train |= {'aug_rand_hflip': choice.mirrored, 'seed': 1}
  evaluate |= {'drop_remainder': False}
  if choice.small_images:
    train |= {'aug_crop': False,
              'random_affine': {'translate': 0.06, 'scale': 0.1}}
    evaluate['aug_crop'] = False
  return {
      'model': model, 'losses': {'l2_weight_decay': 4e-05,
                                 'label_smoothing': 0.0},
      'train_data': train, 'validation_data': evaluate, 'test_data': evaluate}


def has_width(model: str) -> bool:
  """Whether the backbone of a model has a width multiplier."""
  return _backbone(model) in _WIDTHS


def _backbone(model: str) -> str:
  """Returns the type of a model's backbone."""
  return overrides.base(model).task.model.backbone.type


def pipeline(
    choice: Choice, recipe: recipe_lib.Recipe, file: str, summary: str) -> str:
  """Returns the YAML text of a pipeline.

  Args:
    choice: What it is made of.
    recipe: Its numbers.
    file: Path of the file, for the command in its first line.
    summary: One line on data and time.
  """
  stages = goals.GOALS[choice.goal].stages
  blocks = [
      f'{stage}: ' + _flow({'task': goals.block_of(
          stage, choice.goal, recipe.fine_tuning_steps)})
      for stage in stages]
  return _fill(choice, recipe, file, {
      'summary': summary,
      'stages': ', '.join(['float', *stages, 'export', 'evaluate', 'benchmark',
                           'report']),
      'blocks': '\n'.join(blocks),
      'io_dtype': goals.DEVICES[choice.device].io_dtype,
      'report': _flow({'title': f'{choice.model} on {choice.called}'}),
      'task': _task(choice, recipe, 4)}, 'pipeline')


def run(
    choice: Choice, recipe: recipe_lib.Recipe, file: str, summary: str) -> str:
  """Returns the YAML text of one float training; arguments as `pipeline`."""
  return _fill(choice, recipe, file, {
      'summary': summary, 'task': _task(choice, recipe, 2)}, 'run')


def _fill(
    choice: Choice, recipe: recipe_lib.Recipe, file: str,
    values: Mapping[str, Any], kind: str) -> str:
  template = (pathlib.Path(__file__).parent /
              f'{kind}.yaml.template').read_text(encoding='utf-8')
  name = pathlib.PurePath(file).stem
  numbers = {
      f'{stage}_{what}': max(steps // divisor, 1)
      for stage, steps in (('float', recipe.float_steps),
                           ('fine_tuning', recipe.fine_tuning_steps))
      for what, divisor in (('interval', _EVALUATIONS), ('warmup', 50))}
  return string.Template(template).substitute(
      {**dataclasses.asdict(recipe), **numbers, **values,
       'file': shlex.quote(file), 'model_dir': shlex.quote(f'runs/{name}'),
       'model': choice.model, 'data': _flow(choice.data)})


def _task(choice: Choice, recipe: recipe_lib.Recipe, indent: int) -> str:
  lines = [f'{key}: {_flow(value)}'
           for key, value in task_fields(choice, recipe).items()]
  return textwrap.indent('\n'.join(lines), ' ' * indent)


def _flow(value: Any) -> str:
  """Returns a value as YAML in one line."""
  text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False,
                        width=float('inf'))
  return text.removesuffix('\n').removesuffix('\n...')
