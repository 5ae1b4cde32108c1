"""`modelgarden-opt data`: import, check and build data sets."""

import argparse
import collections
import os

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import data_check
from modelgarden_opt.cli import data_serve
from modelgarden_opt.configs import catalog

# Files that are named for every kind of problem.
_NUM_NAMED = 3


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  actions = parser.add_subparsers(dest='action', required=True)
  actions.add_parser('list', help='list the embedded data sets')
  _add_build(actions.add_parser(
      'build', help='write an embedded one as TFRecords'))
  _add_import(actions.add_parser(
      'import', help='write your own images as TFRecords'))
  data_check.add_flags(actions.add_parser(
      'check', help='read every record, and say what is wrong'))
  data_serve.add_flags(actions.add_parser(
      'serve', help='prepare batches for training runs: a tf.data service'))
  for action in actions.choices.values():
    config_flags.add_import_flag(action, of_action=True)


def _add_build(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('embedded', nargs='?', metavar='NAME',
                      help='see `data list`')
  parser.add_argument('--name', help='the same as a flag')
  parser.add_argument(
      '--output_dir', help='where the TFRecords go '
      f'(default: {catalog.EMBEDDED_DIR}/NAME, where YAML files look)')
  parser.add_argument(
      '--source_dir', default='', help='directory of the original files of '
      'fashion_mnist (default: where its Debian package puts them)')


def _add_import(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
      '--source', '--input', required=True, metavar='PATH',
      help='a directory with a folder for every class, with IDX files, with '
      '.npy files or with images/ and masks/; or a .csv, .jsonl or .npz file')
  parser.add_argument(
      '--kind', '--format', metavar='KIND',
      help='folder, csv, jsonl, idx, npz or masks (default: guessed)')
  parser.add_argument('--output_dir', '--output', required=True,
                      help='where the TFRecords go')
  parser.add_argument(
      '--splits', default='80,10,10', metavar='SHARES',
      help='shares of train, validation and test, where the source has no '
      'splits (default: 80,10,10)')
  parser.add_argument('--seed', type=int, default=0,
                      help='of split and order (default: 0)')
  parser.add_argument('--num_shards', type=int,
                      help='files of every split (default: one for every 1,000 '
                      'images)')
  parser.add_argument('--num_processes', type=int,
                      help='processes that read images (default: one for every '
                      'core)')
  parser.add_argument('--ignore_value', type=int, default=255,
                      help='value of masks that is ignored '
                      '(default: 255)')


def run(args: argparse.Namespace) -> int:
  """Runs the action; returns the exit code."""
  return _ACTIONS[args.action](args) or 0


def _list(_: argparse.Namespace) -> None:
  for name, data_set in catalog.DATA_SETS.items():
    print(f'{name}: {data_set.description}')


def _build(args: argparse.Namespace) -> None:
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
  print(f'{name} in {output_dir}: ' + _counts(counts))


def _import(args: argparse.Namespace) -> None:
  config_flags.import_tensorflow()
  from modelgarden_opt.data.importing import importer  # pylint: disable=g-import-not-at-top
  result = importer.import_data(
      args.source, args.output_dir, args.kind, importer.Options(
          splits=args.splits, seed=args.seed, num_shards=args.num_shards,
          num_processes=args.num_processes, ignore_value=args.ignore_value))
  found = result.description
  if result.was_complete:
    print(f'{result.directory} is complete: nothing to do')
  print(f'{found["num_classes"]} classes in {result.directory}: '
        + _counts(found['num_examples']))
  _print_problems(importer.read_problems(result.directory))
  if found['problems']:
    print(f'all of them: {os.path.join(result.directory, "problems.jsonl")}')
  print(f'in a YAML file: task: {{data: {result.directory}}}')


def _print_problems(problems) -> None:
  """Prints how many problems of each kind there are, and the first ones."""
  by_kind = collections.defaultdict(list)
  for problem in problems:
    by_kind[problem.imported, problem.kind].append(problem)
  for (imported, kind), members in sorted(by_kind.items()):
    print(f'{"imported" if imported else "not imported"}: {len(members):,} '
          f'{kind.replace("_", " ")}')
    for problem in members[:_NUM_NAMED]:
      print(f'  {problem.name}: {problem.text}')
    if len(members) > _NUM_NAMED:
      print(f'  and {len(members) - _NUM_NAMED:,} more')


def _counts(counts) -> str:
  return ', '.join(f'{number} {split}' for split, number in counts.items())


_ACTIONS = {'list': _list, 'build': _build, 'import': _import,
            'check': data_check.run, 'serve': data_serve.run}
