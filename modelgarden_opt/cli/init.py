"""`modelgarden-opt init`: a YAML file to start from."""

import argparse
import os
import shlex
import sys

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.cli import config_flags
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import shipped
from modelgarden_opt.recipes import goals
from modelgarden_opt.recipes import questions
from modelgarden_opt.recipes import recipe as recipe_lib

_DEFAULTS = {'goal': 'accuracy', 'device': 'cpu', 'budget': '30m'}
# Fewer images train a narrow model as well, and faster.
_MANY, _NARROW = 20000, 0.35
_MAX_SIZE = 4096
# Names of directories that say nothing about what is in them.
_SAYS_NOTHING = ('data', 'dataset', 'datasets', 'images', 'imported',
                 'tfrecords')
# Classes of these look different in a mirror.
_NOT_MIRRORED = ('digits', 'mnist', 'digits_scenes')
# What `--data` and so on decide, and `--from` does not take.
_CHOICES = ('data', 'model', 'goal', 'device', 'budget', 'kind', 'width',
            'image_size')


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument(
      '--from', dest='source', metavar='NAME',
      help='copy a shipped YAML file, such as digits_mobilenet_v2_qat or '
      'pipelines/digits_mobilenet_v2; `--from=list` lists them')
  parser.add_argument(
      '--data', help='directory that `data import` wrote, or an embedded data '
      'set, see `data list`')
  parser.add_argument(
      '--model', metavar='NAME', help='see `list` (default: by device)')
  parser.add_argument(
      '--goal', metavar='GOAL', help='; '.join(
          f'{name}: {goal.description}' for name, goal in goals.GOALS.items()))
  parser.add_argument(
      '--device', metavar='DEVICE', help='; '.join(
          f'{name}: {device.description}'
          for name, device in goals.DEVICES.items()))
  parser.add_argument(
      '--budget', metavar='BUDGET', help='training time on this machine (30m, '
      '2h) or epochs of the float training (20e); default: 30m')
  parser.add_argument(
      '--kind', choices=('pipeline', 'run'), help='a pipeline for `run`, or '
      'one float training for `train` (default: pipeline)')
  parser.add_argument('--width', type=float,
                      help='width multiplier (default: by device, and at most '
                      '0.35 for fewer than 20,000 images)')
  parser.add_argument('--image_size', type=int,
                      help='side of the input in pixels (default: by images)')
  parser.add_argument(
      '--output', metavar='YAML',
      help='file to write (default: named after data and model)')


def run(args: argparse.Namespace) -> None:
  """Writes the file."""
  if args.source:
    _copy(args)
    return
  _complete(args)
  for field, choices in (('goal', goals.GOALS), ('device', goals.DEVICES)):
    _assert_choice(field, getattr(args, field), choices)
  if args.model:
    _assert_choice('model', args.model, catalog.MODELS)
  if args.width is not None and not 0.05 <= args.width <= 4:
    raise errors.UsageError(
        f'width: must lie in 0.05 to 4, received {args.width}')
  size = args.image_size
  if size is not None and (not 32 <= size <= _MAX_SIZE or size % 32):
    raise errors.UsageError(
        f'image_size: must be a multiple of 32 up to {_MAX_SIZE}, received '
        f'{size}; the nearest is '
        f'{min(max(32 * round(size / 32), 32), _MAX_SIZE)}')
  budget = recipe_lib.Budget.parse(args.budget)
  if args.output:
    _assert_new(args.output)
  config_flags.import_tensorflow()
  _write(args, budget)


def _assert_choice(field: str, value: str, choices) -> None:
  if value not in choices:
    raise errors.UsageError(
        f'{field}: {value!r} is unknown{errors.nearest(value, choices)}')


def _complete(args: argparse.Namespace) -> None:
  """Fills in what no flag says: asked for on a terminal, else the defaults."""
  ask = args.data is None and sys.stdin.isatty()
  if args.data is None and not ask:
    raise errors.UsageError(
        'data: expected a directory that `modelgarden-opt data import` wrote, '
        f'or one of: {", ".join(sorted(catalog.DATA_SETS))}')
  if ask:
    args.data = questions.ask(
        'data set, embedded or a directory', {
            name: data_set.description
            for name, data_set in catalog.DATA_SETS.items()
        } | {'DIRECTORY': 'one that `data import` wrote'}, '', free=True)
  descriptions = {'goal': goals.GOALS, 'device': goals.DEVICES}
  for field, default in _DEFAULTS.items():
    if getattr(args, field) is None:
      choices = {name: entry.description for name, entry in
                 descriptions.get(field, {}).items()}
      setattr(args, field, questions.ask(
          field, choices, default) if ask else default)


def _copy(args: argparse.Namespace) -> None:
  """Copies a shipped file."""
  if args.source == 'list':
    print('\n'.join(shipped.paths()))
    return
  given = [name for name in _CHOICES if getattr(args, name) is not None]
  if given:
    raise errors.UsageError(
        f'from: copies a file as it is, so {given[0]} cannot be given')
  path = shipped.find(args.source)
  with open(path, encoding='utf-8') as f:
    _save(args.output or os.path.basename(path), f.read())


def _assert_new(path: str) -> None:
  """Raises `UsageError` for a file that is there."""
  if files.exists(path):
    raise errors.UsageError(f'output: {path!r} is there already; give another')


def _save(path: str, text: str) -> None:
  """Writes a file that must not be there yet."""
  _assert_new(path)
  files.write_atomically(path, text)
  print(f'wrote {path}')


def _duration(minutes: float) -> str:
  """Returns an estimate in words: seconds, minutes or hours."""
  if minutes < 1.5:
    return f'about {errors.counted(max(round(60 * minutes), 1), "second")}'
  if minutes < 120:
    return f'about {errors.counted(round(minutes), "minute")}'
  return f'about {minutes / 60:.1f} hours'


def _write(args: argparse.Namespace, budget: recipe_lib.Budget) -> None:
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.configs import data_set
  from modelgarden_opt.recipes import timing
  from modelgarden_opt.recipes import writing
  data = data_set.read(args.data)
  device = goals.DEVICES[args.device]
  model = args.model or (
      device.model if data.task == 'image_classification'
      else 'deeplabv3_mobilenet_v2')
  if catalog.MODELS[model].task != data.task:
    fitting = [name for name, entry in catalog.MODELS.items()
               if entry.task == data.task]
    raise errors.UsageError(
        f'model: {model!r} is not for {data.task.replace("_", " ")}, the task '
        f'of {args.data!r}; one of: {", ".join(fitting)}')
  if args.width is not None and not writing.has_width(model):
    raise errors.UsageError(
        f'width: {model!r} has no width multiplier, received {args.width}; '
        'leave it out')
  name = os.path.basename(os.path.realpath(args.data))
  choice = writing.Choice(
      data=args.data, called=(
          f'{len(data.classes)} classes' if name.lower() in _SAYS_NOTHING
          else name),
      model=model, goal=args.goal, device=args.device,
      width=args.width or (
          device.width if data.num_examples['train'] >= _MANY
          else min(device.width, _NARROW)),
      small_images=data.largest_side < writing.SMALL,
      mirrored=args.data not in _NOT_MIRRORED)
  num_fine_tunings = (
      len(goals.GOALS[args.goal].stages) if args.kind != 'run' else 0)
  size = args.image_size or recipe_lib.image_size(data.largest_side)

  def derive(budget, seconds=None):
    return recipe_lib.derive(
        data.num_examples['train'], size, num_fine_tunings, budget, seconds)

  draft = derive(recipe_lib.Budget(1, 'e'))
  seconds = timing.seconds_per_step(
      model, writing.task_fields(choice, draft), len(data.classes))
  recipe = derive(budget, seconds)
  path = args.output or (
      f'{name}_{model}.yaml')
  summary = (f"{data.num_examples['train']:,} images of {len(data.classes)} "
             f'classes to train with; {_duration(recipe.minutes)} here '
             f'({seconds:.2f} s a step).')
  make = writing.run if args.kind == 'run' else writing.pipeline
  text = make(choice, recipe, path, summary)
  _save(path, text)
  print(summary)
  if recipe.float_steps == recipe_lib.MIN_STEPS:
    print(f'{recipe_lib.MIN_STEPS} steps are the fewest that make sense, '
          f'whatever the budget ({args.budget})')
  print('next: ' + shlex.join(shlex.split(text.splitlines()[0][2:])))
