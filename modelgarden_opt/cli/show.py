"""`modelgarden-opt show`: a resolved configuration and what came from where.
"""

import argparse
from collections.abc import Iterator
from collections.abc import Mapping
import os
from typing import Any

import yaml

from modelgarden_opt import errors
from modelgarden_opt.configs import origins
from modelgarden_opt.configs.reading import flag
from modelgarden_opt.configs.reading import yaml_file
from modelgarden_opt.configs.schema import marks


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('path', metavar='RUN_OR_YAML',
                      help='a run directory or a YAML file')
  parser.add_argument('field', nargs='?', default='', metavar='FIELD',
                      help='only this field or block, such as task.pruning')
  parser.add_argument('--experiment', help='what the YAML file is for '
                      '(default: what it says)')
  parser.add_argument('--params_override', metavar='YAML',
                      help="further overrides: YAML, JSON or 'a.b=1,c=2'")
  parser.add_argument('--changed', action='store_true', help='only what is '
                      'other than the experiment says')


def run(args: argparse.Namespace) -> None:
  """Prints YAML that `--config_file` reads, with a comment at every origin."""
  from modelgarden_opt.cli import configurations  # pylint: disable=g-import-not-at-top
  found, resolved, file = configurations.of_path(
      args.path, args.experiment, args.imports,
      looked_at=not args.params_override)
  if args.params_override:
    name = '--params_override'
    values = yaml_file.load(file)
    found, resolved = configurations.resolve(
        found.values['task']['name'],
        {file: values, name: flag.parse(args.params_override, name)},
        args.imports, of_run=os.path.isdir(args.path))
  resolved.raise_if_wrong()
  written = origins.parse(yaml_file.text_of(file))
  where = written or {
      name: _where(mark) for name, mark in resolved.origins.items()}
  flat = configurations.flat(found, resolved.values)
  before = configurations.flat(found, found.values)
  chosen = {
      name: value for name, value in flat.items()
      if _is_below(name, args.field) and not (
          args.changed and name in before and before[name] == value)}
  if args.field and not any(_is_below(name, args.field) for name in flat):
    known = {'.'.join(name.split('.')[:count]) for name in flat
             for count in range(1, name.count('.') + 2)}
    raise errors.UsageError(f'{args.field}: no such field in {args.path!r}'
                            f'{_near(args.field, known)}')
  print(f'# {found.values["task"]["name"]}, {file}')
  for line in _lines(_nested(chosen), where, '', 0):
    print(line)


def _near(name: str, known) -> str:
  return errors.close(name, known)


def _where(mark: marks.Mark) -> str:
  return f'{mark.source}:{mark.line}' if mark.line else mark.source


def _is_below(name: str, field: str) -> bool:
  return not field or name == field or name.startswith(f'{field}.')


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
  found: dict[str, Any] = {}
  for name, value in flat.items():
    *parents, last = name.split('.')
    block = found
    for parent in parents:
      block = block.setdefault(parent, {})
    block[last] = value
  return found


def _lines(
    block: Mapping[str, Any], where: Mapping[str, str], path: str, depth: int
) -> Iterator[str]:
  """Yields a block as YAML, with the origin after every value."""
  for key, value in block.items():
    name, indent = f'{path}{key}', '  ' * depth
    if isinstance(value, Mapping) and value:
      yield f'{indent}{key}:'
      yield from _lines(value, where, f'{name}.', depth + 1)
    else:
      comment = f'  # {where[name]}' if name in where else ''
      yield f'{indent}{key}: {_flow(value)}{comment}'


def _flow(value: Any) -> str:
  return yaml.safe_dump(
      value, default_flow_style=True, width=float('inf'),
      allow_unicode=True).removesuffix('\n').removesuffix('\n...')


