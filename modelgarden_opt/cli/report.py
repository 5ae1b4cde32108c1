"""`modelgarden-opt report`: one table and picture from measured JSON files."""

import argparse
from collections.abc import Mapping
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.cli import output

# What writes the files of a flag.
_WRITTEN_BY = {'evaluation': 'evaluate', 'benchmark': 'benchmark',
               'export': 'export'}


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--variant', action='append', required=True,
                      metavar='NAME=PATH',
                      help='a row of the table; repeatable')
  parser.add_argument('--evaluation', action='append', required=True,
                      metavar='JSON',
                      help='output of `evaluate`; repeatable')
  parser.add_argument('--benchmark', required=True, metavar='JSON',
                      help='output of `benchmark`')
  parser.add_argument('--export', action='append', default=[], metavar='JSON',
                      help='output of `export`, adds zeros and distinct '
                      'weights to the table; repeatable')
  parser.add_argument('--output_dir', required=True,
                      help='where results.json, report.md and report.png go')
  parser.add_argument('--title', default='Results',
                      help='heading of the report')
  parser.add_argument('--made_by', default='modelgarden-opt report',
                      help='command to name in the report')


def run(args: argparse.Namespace) -> None:
  """Joins the records, writes the report and prints its table."""
  from modelgarden_opt.report import page  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.report import results  # pylint: disable=g-import-not-at-top
  variants = {}
  for variant in args.variant:
    name, separator, path = variant.partition('=')
    if not separator:
      raise errors.UsageError(
          f'variant: expected NAME=PATH, received {variant!r}')
    variants[name] = path
  joined = results.join(
      variants,
      [_read('evaluation', path, 'results') for path in args.evaluation],
      _read('benchmark', args.benchmark, 'results'),
      [_read('export', path, 'kernels') for path in args.export])
  page.write(joined, args.output_dir, args.title, args.made_by)
  print(output.table(*page.rows(joined)))


def _read(flag: str, path: str, key: str) -> Mapping[str, Any]:
  """Returns what another command wrote.

  Raises:
    UsageError: If the file is not one of that command.
  """
  found = files.read_json(path)
  records = found.get(key) if isinstance(found, Mapping) else None
  right = isinstance(records, list) and all(
      isinstance(record, Mapping) for record in records)
  if right and key == 'results':
    right = all('model' in record for record in records)
  if not right:
    raise errors.UsageError(
        f'{flag}: {path!r} was not written by `{_WRITTEN_BY[flag]} '
        f'--output_json`: it has no list of {key}')
  return found
