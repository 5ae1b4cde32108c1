"""`modelgarden-opt describe`: what a field or a block of a YAML takes."""

import argparse
from collections.abc import Iterator
import textwrap
from typing import Any

import yaml

from modelgarden_opt import errors
from modelgarden_opt.configs.schema import fields
from modelgarden_opt.configs.schema import stored

_WIDTH = 100
_PIPELINE = 'pipeline'


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument(
      'field', nargs='?', default='', metavar='FIELD',
      help='such as task.pruning, task.pruning.rules.path, pipeline.training, '
      'or the last word of a name: frequency (default: the outermost blocks)')
  parser.add_argument(
      '--task', choices=('image_classification', 'semantic_segmentation'),
      help='whose fields (default: of the first task that has the field)')


def run(args: argparse.Namespace) -> None:
  """Prints type, default, range, meaning and an example of every field."""
  path = [part.partition('[')[0] for part in args.field.split('.') if part]
  if path[:1] == [_PIPELINE]:
    print('\n'.join(_of_pipeline(path[1:])))
    return
  schemas = stored.schemas()
  if args.task:
    schemas = {args.task: schemas[args.task]}
  first = None
  for schema, root in schemas.values():
    try:
      print('\n'.join(_found(schema, root, path)))
      return
    except errors.UsageError as e:
      first = first or e
  matches = _named(schemas, args.field)
  if not matches:
    raise first
  for name, schema, field in matches:
    print('\n'.join(_entry(name, field, schema)))


def _of_pipeline(path: list[str]) -> Iterator[str]:
  """Yields the lines about stages of pipelines."""
  from modelgarden_opt.pipeline import fields as stages  # pylint: disable=g-import-not-at-top
  blocks = stages.SCHEMA.blocks
  if not path:
    for name in blocks:
      yield f'{_PIPELINE}.{name}'
    return
  if path[0] not in blocks:
    raise errors.UsageError(f'{_PIPELINE}.{path[0]}: no such stage'
                            f'{errors.nearest(path[0], blocks)}')
  yield from _found(stages.SCHEMA, path[0], path[1:],
                    f'{_PIPELINE}.{path[0]}')


def _found(
    schema: fields.Schema, root: str, path: list[str], prefix: str = ''
) -> Iterator[str]:
  """Yields the lines about a block with all its fields, or about a field.

  Raises:
    UsageError: If there is none of that name.
  """
  name, block = prefix, schema.blocks[root]
  if path:
    name = '.'.join(filter(None, (prefix, *path)))
    try:
      _, _, field = fields.lookup(schema, root, path)
    except KeyError as e:
      raise errors.UsageError(_unknown(prefix, *e.args)) from None
    inner = field.block or (field.element.block if field.element else '')
    yield from _entry(name, field, schema)
    if not inner:
      return
    block = schema.blocks[inner]
  for key, field in block.fields.items():
    yield from _entry(f'{name}.{key}' if name else key, field, schema)


def _unknown(prefix: str, parent: str, name: str, block) -> str:
  where = '.'.join(filter(None, (prefix, parent, name)))
  if block is None:
    return f'{where}: no such field, since {parent} is a value'
  return f'{where}: no such field{errors.nearest(name, block.fields)}'


def _named(schemas, word: str) -> list[tuple[str, fields.Schema, Any]]:
  """Returns the fields of a name, wherever they are."""
  from modelgarden_opt.configs.schema import checking  # pylint: disable=g-import-not-at-top
  found = {}
  for schema, root in schemas.values():
    for name, field in checking.fields_of(schema, root):
      if name.endswith(f'.{word}'):
        found.setdefault(name, (name, schema, field))
  return list(found.values())


def _entry(
    name: str, field: fields.Field, schema: fields.Schema) -> Iterator[str]:
  """Yields the lines about one field."""
  yield f'{name}: {", ".join(_facts(field))}'
  meaning = field.meaning or field.takes.meaning
  if not meaning and field.block:
    meaning = schema.blocks[field.block].meaning
  if meaning:
    yield from textwrap.wrap(meaning, _WIDTH, initial_indent='    ',
                             subsequent_indent='    ')
  choices = field.choices() or (field.element.choices() if field.element
                                else [])
  if choices:
    text = 'one of: ' + ', '.join(str(c) or "''" for c in choices)
    yield from textwrap.wrap(text, _WIDTH, initial_indent='    ',
                             subsequent_indent='      ')
  if field.takes.example:
    yield f'    example: {name.rpartition(".")[2]}: {field.takes.example}'


def _facts(field: fields.Field) -> Iterator[str]:
  kinds = ' or '.join(_kind(field, kind) for kind in field.kinds)
  yield kinds + (' or null' if field.nullable else '')
  if field.takes.length:
    yield f'{" or ".join(map(str, field.takes.length))} elements'
  if field.takes.range:
    unit = f' {field.takes.unit}' if field.takes.unit else ''
    yield f'{field.takes.range}{unit}'
  if field.default is None and not field.nullable:
    return  # It has none, or is a block whose fields have theirs.
  if not field.block or field.default is None:
    yield f'default {_yaml(field.default)}'


def _kind(field: fields.Field, kind: str) -> str:
  if kind == 'list' and field.element is not None:
    return f'list of {" or ".join(map(_word, field.element.kinds))}'
  return _word(kind)


def _word(kind: str) -> str:
  return {'block': 'block', 'any_fields': 'fields of any name'}.get(kind, kind)


def _yaml(value: Any) -> str:
  return yaml.safe_dump(
      value, default_flow_style=True, width=10_000).removesuffix(
          '\n').removesuffix('\n...')
