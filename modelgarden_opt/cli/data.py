"""`modelgarden-opt data`: the embedded data sets."""

import argparse

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.configs import catalog


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  actions = parser.add_subparsers(dest='action', required=True)
  actions.add_parser('list', help='list the embedded data sets')
  build = actions.add_parser(
      'build', help='write an embedded one as TFRecords')
  build.add_argument('embedded', nargs='?', metavar='NAME',
                     help='see `data list`')
  build.add_argument('--name', help='the same as a flag')
  build.add_argument(
      '--output_dir', help='where the TFRecords go '
      f'(default: {catalog.EMBEDDED_DIR}/NAME, where YAML files look)')
  build.add_argument(
      '--source_dir', default='', help='directory of the original files of '
      'fashion_mnist (default: where its Debian package puts them)')


def run(args: argparse.Namespace) -> None:
  """Builds a data set or lists them all."""
  if args.action == 'list':
    for name, description in catalog.DATA_SETS.items():
      print(f'{name}: {description}')
    return
  names = {name for name in (args.embedded, args.name) if name}
  if len(names) != 1:
    raise errors.UsageError(
        f'name: expected one data set, received {len(names)}; one of: '
        f'{", ".join(sorted(catalog.DATA_SETS))}')
  name, = names
  output_dir = args.output_dir or f'{catalog.EMBEDDED_DIR}/{name}'
  config_flags.import_tensorflow()
  from modelgarden_opt.data import embedded  # pylint: disable=g-import-not-at-top
  counts = embedded.build(name, output_dir, args.source_dir)
  print(f'{name} in {output_dir}: ' +
        ', '.join(f'{n} {split}' for split, n in counts.items()))
