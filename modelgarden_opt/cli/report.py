"""`modelgarden-opt report`: one page from everything that was measured."""

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import os
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output

# What writes the files of a flag.
_WRITTEN_BY = {'evaluation': 'evaluate', 'benchmark': 'benchmark',
               'export': 'export'}
_SAMPLES, _MAX_SAMPLES = 'samples.json', 1000


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--runs', action='append', default=[], metavar='DIR',
                      help='directory below which runs, files and their JSON '
                      'records are found; repeatable')
  parser.add_argument('--variant', action='append', default=[],
                      metavar='NAME=PATH',
                      help='a row of the table; repeatable (default with '
                      '--runs: every file)')
  parser.add_argument('--evaluation', action='append', default=[],
                      metavar='JSON',
                      help='output of `evaluate`, without --runs; repeatable')
  parser.add_argument('--benchmark', metavar='JSON',
                      help='output of `benchmark`, without --runs')
  parser.add_argument('--export', action='append', default=[], metavar='JSON',
                      help='output of `export`, without --runs, adds zeros and '
                      'distinct weights to the table; repeatable')
  parser.add_argument('--output_dir',
                      help='where report.html, report.md, report.png and '
                      'results.json go (default: the directory of --runs)')
  parser.add_argument('--title', default='Results',
                      help='heading of the report')
  parser.add_argument('--made_by', default='modelgarden-opt report',
                      help='command to name in the report')
  parser.add_argument('--samples', type=int, default=0, metavar='N',
                      help='show so many images with what files see in them; '
                      'reads the data of a run (default: those that an earlier '
                      'report kept)')
  parser.add_argument('--check', metavar='YAML',
                      help='limits that variants have to keep; exit code 1 if '
                      'one does not, see docs/report.md')
  add_constraints(parser)


def add_constraints(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that say what a file has to fulfill."""
  parser.add_argument('--max_drop', type=float, default=0.5, metavar='POINTS',
                      help='points of accuracy that the file to ship may lose '
                      'against the first one (default: 0.5)')
  parser.add_argument('--max_size', metavar='SIZE',
                      help='its largest size: bytes, 600KiB, 1.5MiB')
  parser.add_argument('--max_ms', type=float, metavar='MS',
                      help='its largest median latency')
  parser.add_argument('--minimize', default='size', metavar='WHAT',
                      help='size (zipped), flash (the plain file) or latency '
                      '(default: size)')


def constraints(
    args: argparse.Namespace,
    minimized: Sequence[str] = ('size', 'flash', 'latency')):
  """Returns what the file to ship has to fulfill.

  Args:
    args: The flags.
    minimized: What `--minimize` may name.

  Raises:
    UsageError: If a limit is not one.
  """
  from modelgarden_opt.report import choosing  # pylint: disable=g-import-not-at-top
  if args.minimize not in minimized:
    raise errors.UsageError(
        f'minimize: {args.minimize!r} cannot be minimized'
        f'{errors.nearest(args.minimize, minimized)}')
  config_flags.assert_numbers(args, 0, 'max_drop')
  config_flags.assert_numbers(args, 0, 'max_ms', exclusive=True)
  return choosing.Constraints(
      max_drop=args.max_drop, max_ms=args.max_ms, minimize=args.minimize,
      max_bytes=args.max_size and choosing.parse_bytes(args.max_size))


def run(args: argparse.Namespace) -> None:
  """Finds the records, writes the report and prints its table."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.report import choosing
  from modelgarden_opt.report import document
  from modelgarden_opt.report import page
  from modelgarden_opt.report import thresholds
  limits = constraints(args)
  config_flags.assert_numbers(args, 0, 'samples', most=_MAX_SAMPLES)
  rules = thresholds.load(args.check) if args.check else None
  variants = _variants(args)
  found = _found(args, variants)
  made = document.make(found, variants, args.title, args.made_by, limits)
  broken = thresholds.check(rules, made.variants) if rules else []
  output_dir = _output_dir(args)
  if args.samples:
    _add_samples(made, args.samples, os.path.join(output_dir, _SAMPLES))
  document.write(made, output_dir)
  print(output.table(*page.rows(made.results)))
  print(f'\n{choosing.sentence(made.variants, limits)}\n'
        f'{os.path.join(output_dir, "report.html")}')
  if broken:
    raise errors.Failure('\n'.join(['limits that are not kept:', *broken]))


def _variants(args: argparse.Namespace) -> dict[str, str] | None:
  """Returns paths by name; None if all files are to be found."""
  variants = {}
  for variant in args.variant:
    name, separator, path = variant.partition('=')
    if not name or not separator or not path:
      raise errors.UsageError(
          f'variant: expected NAME=PATH, received {variant!r}')
    if name in variants:
      raise errors.UsageError(f'variant: {name!r} is given twice')
    variants[name] = files.expanded(path)
  return variants or None


def _found(args: argparse.Namespace, variants: dict[str, str] | None):
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.report import finding
  from modelgarden_opt.report import results
  given = [f'--{name}' for name in ('evaluation', 'benchmark', 'export')
           if getattr(args, name)]
  if args.runs:
    if given:
      raise errors.UsageError(
          f'runs: finds these files itself, received {", ".join(given)}')
    found = finding.find(args.runs)
    for name, path in (variants or {}).items():
      if found.path_of(path) not in found.files and not files.is_file(path):
        raise errors.UsageError(
            f'variant {name}: there is no file {path!r}'
            f'{errors.nearest(path, found.files)}')
    return found
  if not (variants and args.evaluation and args.benchmark):
    raise errors.UsageError(
        'runs: expected a directory, or --variant, --evaluation and '
        '--benchmark')
  found = finding.given(
      [_read('evaluation', path, 'results') for path in args.evaluation],
      [_read('benchmark', args.benchmark, 'results')],
      [_read('export', path, 'kernels') for path in args.export])
  results.assert_measured(variants, found)
  return found


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


def _output_dir(args: argparse.Namespace) -> str:
  """Returns the directory to write to, which is there then."""
  if not args.output_dir and len(args.runs) != 1:
    raise errors.UsageError('output_dir: expected a directory')
  path = args.output_dir or args.runs[0]
  try:
    files.make_directory(path)
  except OSError as e:
    raise errors.UsageError(
        f'output_dir: {path!r} cannot be made: {e.strerror}') from None
  if '://' not in path and not os.access(path, os.W_OK):
    raise errors.UsageError(f'output_dir: {path!r} cannot be written')
  return path


def _add_samples(made, number: int, path: str) -> None:
  """Adds images of the data; a run without its data has none."""
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.evaluation import samples
  first, chosen = made.variants[0], made.chosen
  paths = list(dict.fromkeys(
      made.found.path_of(v['model']) for v in (first, chosen)))
  run = first.get('run') or chosen.get('run')
  if not run:
    print('samples: no record says which run the files are from')
    return
  predictions = {p: made.predictions[p].classes for p in paths
                 if p in made.predictions}
  try:
    kept = samples.collect(run, paths, number, predictions,
                           first.get('split', 'test'))
  except errors.UsageError as e:
    print(f'samples: {e}')
    return
  files.write_json(path, kept)
  made.found.values['samples'].append((path, kept))
