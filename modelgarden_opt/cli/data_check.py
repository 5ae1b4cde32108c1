"""`modelgarden-opt data check`: what is wrong with a data set."""

import argparse
import collections
from collections.abc import Iterator
import dataclasses

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output
from modelgarden_opt.configs import catalog

# Records that are named for every kind of finding.
_NUM_NAMED = 5
# Classes that the table counts one by one.
_MAX_CLASSES = 30
# One experiment of every task: a file need not say which one it is for.
_EXPERIMENTS = {'image_classification': 'mobilenet_v2',
                'semantic_segmentation': 'deeplabv3_mobilenet_v2'}


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this action."""
  parser.add_argument('data', nargs='?', metavar='NAME_OR_DIR',
                      help='an imported directory or an embedded name')
  parser.add_argument('--config_file', action='append', default=[],
                      metavar='YAML', help='a configuration or a pipeline that '
                      'names its data; repeatable, later ones win')
  parser.add_argument('--experiment', help='what the YAML is for (default: '
                      'what fits)')
  parser.add_argument('--params_override', metavar='YAML',
                      help="further overrides: YAML, JSON or 'a.b=1,c=2'")
  parser.add_argument('--max_records', type=int,
                      help='records of every split to read (default: all)')
  output.add_flag(parser)


def run(args: argparse.Namespace) -> int:
  """Checks the data; returns the exit code: 2 if something is wrong."""
  if bool(args.data) == bool(args.config_file):
    raise errors.UsageError(
        'expected either NAME_OR_DIR or --config_file, received '
        f'{"both" if args.data else "neither"}')
  if args.max_records is not None and args.max_records < 1:
    raise errors.UsageError(
        f'max_records: must be >= 1, received {args.max_records}')
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.data import checking
  from modelgarden_opt.data import class_names
  splits, findings, names = [], [], ()
  for config in _configs(args):
    names = names or class_names.of(config)
    report = checking.check(config, args.max_records)
    splits += report.splits
    findings += report.findings
  if args.data and args.data not in catalog.DATA_SETS:
    findings += checking.check_files(args.data)
  _print(splits, findings, names)
  output.write(args, {
      'splits': [{**vars(split), 'classes': {
          str(n): count for n, count in sorted(split.classes.items())}}
                 for split in splits],
      'findings': [dataclasses.asdict(finding) for finding in findings]})
  return 2 if any(finding.wrong for finding in findings) else 0


def _configs(args: argparse.Namespace) -> list:
  """Returns the configurations of tasks whose data are checked."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.cli import run as run_lib
  from modelgarden_opt.configs import data_set
  from modelgarden_opt.configs import overrides
  if args.data:
    experiment = _EXPERIMENTS[data_set.read(args.data).task]
    return [overrides.resolve_values(
        experiment, {'data': {'task': {'data': args.data}}}).task]
  if 'stages' in overrides.load_yaml(args.config_file[0]):
    _, configs = run_lib.load_with_configs(
        args.config_file[0], imports=args.imports)
    return list({str(_data(config.task)): config.task
                 for config in configs.values()}.values())
  names = [args.experiment] if args.experiment else _EXPERIMENTS.values()
  problems = []
  for name in names:
    try:
      return [overrides.resolve(
          name, args.config_file, args.params_override, args.imports).task]
    except errors.UsageError as e:
      problems.append(str(e))
  raise errors.UsageError(min(problems, key=lambda text: text.count('\n')))


def _data(task) -> list:
  return [task.model.num_classes, *(
      data and data.as_dict()
      for data in (task.train_data, task.validation_data, task.test_data))]


def _print(splits, findings, names) -> None:
  print(output.table(
      ['split', 'records', 'formats', 'classes', 'fewest', 'most'],
      [[s.field, f'{s.num_records:,}',
        ' '.join(f'{name} {n:,}' for name, n in sorted(s.formats.items())),
        f'{len(s.classes):,}', f'{min(s.classes.values(), default=0):,}',
        f'{max(s.classes.values(), default=0):,}'] for s in splits]))
  numbers = sorted({number for split in splits for number in split.classes})
  if len(numbers) <= _MAX_CLASSES:
    print('\n' + output.table(
        ['class', *(split.field for split in splits)],
        [[f'{number} {names[number]}' if number < len(names) else str(number),
          *(f'{s.classes[number]:,}' for s in splits)]
         for number in numbers]))
  for line in _lines(findings):
    print(line)
  if not any(finding.wrong for finding in findings):
    print('\nnothing is wrong')


def _lines(findings) -> Iterator[str]:
  """Yields what was found, the wrong first, a few records of every kind."""
  by_kind = collections.defaultdict(list)
  for finding in findings:
    by_kind[not finding.wrong, finding.field, finding.kind].append(finding)
  for (only_note, field, kind), members in sorted(by_kind.items()):
    yield (f'\n{"note" if only_note else "wrong"}: {field}: '
           f'{len(members):,} {kind.replace("_", " ")}')
    for finding in members[:_NUM_NAMED]:
      yield f'  {finding.place}: {finding.text}'.replace('  : ', '  ')
    if len(members) > _NUM_NAMED:
      yield (f'  and {len(members) - _NUM_NAMED:,} more (--output_json writes '
             'all)')
