"""`modelgarden-opt diff`: in what two configurations differ."""

import argparse
from typing import Any

import yaml

from modelgarden_opt import errors
from modelgarden_opt.cli import output

_WIDTH = 40


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('a', metavar='A', help='a run directory or a YAML file')
  parser.add_argument('b', metavar='B', help='another one')
  parser.add_argument('--experiment', help='what YAML files are for (default: '
                      'what they say)')
  output.add_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Prints the fields that differ, and both values."""
  from modelgarden_opt.cli import configurations  # pylint: disable=g-import-not-at-top
  flat, problems = [], []
  for path in (args.a, args.b):
    try:
      found, resolved, _ = configurations.of_path(
          path, args.experiment, args.imports, looked_at=True)
      resolved.raise_if_wrong()
      flat.append(configurations.flat(found, resolved.values))
    except errors.UsageError as e:
      problems.append(str(e))
  if problems:
    raise errors.UsageError('\n'.join(problems))
  a, b = flat
  rows = [(name, a.get(name, _NONE), b.get(name, _NONE))
          for name in dict.fromkeys((*a, *b))
          if a.get(name, _NONE) != b.get(name, _NONE)
          and not (_is_on(name, a) or _is_on(name, b))]
  output.write(args, {'differences': [
      {'field': name, 'a': _json(first), 'b': _json(second)}
      for name, first, second in rows]})
  if not rows:
    print('no field differs')
    return
  print(output.table(
      ['field', args.a[-_WIDTH:], args.b[-_WIDTH:]],
      [[name, _text(first), _text(second)] for name, first, second in rows]))


def _is_on(name: str, flat) -> bool:
  """Whether a configuration has fields below a name: a block that is on."""
  return any(other.startswith(f'{name}.') for other in flat)


class _Absent:
  """Stands for a field that a configuration does not have."""


_NONE = _Absent()


def _json(value: Any) -> Any:
  return None if value is _NONE else value


def _text(value: Any) -> str:
  if value is _NONE:
    return '-'
  text = yaml.safe_dump(
      value, default_flow_style=True, width=float('inf')).removesuffix(
          '\n').removesuffix('\n...')
  return text if len(text) <= _WIDTH else f'{text[:_WIDTH - 3]}...'
