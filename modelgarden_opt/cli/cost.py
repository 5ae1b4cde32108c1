"""`modelgarden-opt cost`: what a training will take on several devices."""

import argparse

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output

_UNITS = ((1e12, 'TB'), (1e9, 'GB'), (1e6, 'MB'), (1e3, 'kB'))


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  config_flags.add_flags(parser, needs_experiment=False)
  parser.add_argument('--devices', type=int, default=1,
                      help='number of GPUs, TPU cores or workers (default: 1)')
  parser.add_argument(
      '--images_per_second', type=float, required=True,
      help='what one device trains in a second: the steps/s that `train` shows '
      'on one, times the batch')
  parser.add_argument(
      '--gigabytes_per_second', type=float,
      help='what a device sends to the others in a second (default: the time '
      'of sending is left out)')
  output.add_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Prints images, bytes and hours."""
  for name, least in (('devices', 1), ('images_per_second', 0),
                      ('gigabytes_per_second', 0)):
    value = getattr(args, name)
    if value is not None and not (
        value >= least and 0 < value < float('inf')):
      raise errors.UsageError(
          f'{name}: must be {">= 1" if least else "> 0"}, received {value:g}')
  args.experiment = args.experiment or _experiment(args.config_file)
  output.assert_writable(args)
  params = config_flags.resolve(args)
  from modelgarden_opt.training import cost  # pylint: disable=g-import-not-at-top
  bandwidth = args.gigabytes_per_second
  found = cost.of(params, args.devices, args.images_per_second,
                  None if bandwidth is None else bandwidth * 1e9)
  _print(found, args)
  output.write(args, found)


def _experiment(paths: list[str]) -> str:
  """Returns the experiment that a file names; the last one that does wins."""
  if not paths:
    raise errors.UsageError('experiment: give --experiment or --config_file')
  config_flags.assert_files('config_file', paths)
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.cli import configurations
  from modelgarden_opt.configs.reading import yaml_file
  return configurations.experiment_of(paths[0], yaml_file.load(paths[0]))


def _print(found, args: argparse.Namespace) -> None:
  number = '{:,}'.format
  print(f'{args.experiment} on {errors.counted(args.devices, "device")}, '
        f'{args.images_per_second:g} images/s each')
  print(output.table(['what', 'how much', 'of which'], [
      ['steps', number(found['steps']),
       f'{number(found["images_per_device_and_step"])} images on each device'],
      ['images', number(found['images']), ''],
      ['evaluations', number(found['evaluations']), _evaluated(found)],
      ['all-reduce', _size(found['all_reduce_bytes']),
       f'sent by each device; {_size(found["all_reduce_bytes_per_step"])} in '
       'a step'],
      ['checkpoints', number(found['checkpoints']),
       f'{_size(found["checkpoint_bytes"])} each, '
       f'{_size(found["checkpoint_bytes_written"])} written, '
       f'{_size(found["checkpoint_bytes_kept"])} kept at most'],
      ['hours', f'{found["hours"]:.2f}', _hours(found)]]))


def _evaluated(found) -> str:
  images = found['evaluation_images']
  if images is None:
    return ('of a split of unknown size: set trainer.validation_steps to '
            'count its images')
  return f'{images:,} images'


def _hours(found) -> str:
  parts = [(name, found[f'{name}_hours'])
           for name in ('training', 'evaluation', 'all_reduce')]
  return ', '.join(f'{name.replace("_", "-")} {hours:.2f}'
                   for name, hours in parts if hours is not None)


def _size(count: int) -> str:
  for unit, name in _UNITS:
    if count >= unit:
      return f'{count / unit:.1f} {name}'
  return f'{count} bytes'
