"""`modelgarden-opt data`: the embedded data sets."""

import argparse

from modelgarden_opt.cli import config_flags
from modelgarden_opt.configs import catalog


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  actions = parser.add_subparsers(dest='action', required=True)
  actions.add_parser('list', help='list the embedded data sets')
  build = actions.add_parser('build', help='write one as TFRecords')
  build.add_argument('--name', required=True, choices=sorted(catalog.DATA_SETS),
                     help='see `data list`')
  build.add_argument('--output_dir', required=True,
                     help='where the TFRecords go')


def run(args: argparse.Namespace) -> None:
  """Builds a data set or lists them all."""
  if args.action == 'list':
    for name, description in catalog.DATA_SETS.items():
      print(f'{name}: {description}')
    return
  config_flags.import_tensorflow()
  from modelgarden_opt.data import embedded  # pylint: disable=g-import-not-at-top
  counts = embedded.build(args.name, args.output_dir)
  print(f'{args.name} in {args.output_dir}: ' +
        ', '.join(f'{n} {split}' for split, n in counts.items()))
