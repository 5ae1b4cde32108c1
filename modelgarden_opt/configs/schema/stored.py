"""The schema and the experiments as a file, read without TensorFlow.

`schema.json` beside this module is written from the dataclasses by `make docs`;
a test compares the two. It holds for the release of tf-models-official that it
names, and for the experiments of the catalog.
"""

from collections.abc import Mapping
import dataclasses
import functools
import json
import pathlib
from typing import Any

from modelgarden_opt import techniques
from modelgarden_opt.configs.schema import fields

PATH = pathlib.Path(__file__).with_name('schema.json')
_OFFICIAL = 'tf-models-official'


@dataclasses.dataclass(frozen=True)
class Experiment:
  """An experiment without overrides.

  Attributes:
    task: `image_classification` or `semantic_segmentation`.
    schema: What it is made of.
    root: Name of the outermost block.
    values: Its values as plain data.
  """
  task: str
  schema: fields.Schema
  root: str
  values: Mapping[str, Any]


def version() -> str:
  """Returns the installed release of tf-models-official."""
  from importlib import metadata  # pylint: disable=g-import-not-at-top
  return metadata.version(_OFFICIAL)


def fits() -> bool:
  """Whether the file is of what is installed and registered."""
  content = _content()
  return content is not None and content['official'] == version() and (
      content['techniques'] == [*techniques.TECHNIQUES])


def experiment(name: str) -> Experiment | None:
  """Returns an experiment of the file, None if it has none of that name."""
  content = _content()
  if name not in content['experiments']:
    return None
  task = content['experiments'][name]['task']
  schema, root = _schema(task)
  return Experiment(task, schema, root, _values(name))


def schemas() -> dict[str, tuple[fields.Schema, str]]:
  """Returns schema and outermost block of every task."""
  return {task: _schema(task) for task in _content()['roots']}


@functools.cache
def _content() -> Any:
  try:
    return json.loads(PATH.read_text(encoding='utf-8'))
  except (OSError, ValueError):
    return None


@functools.cache
def _schema(task: str) -> tuple[fields.Schema, str]:
  described, root = _content()['blocks'], _content()['roots'][task]
  own = _content()['of_task'][task]
  return fields.Schema({
      name: _block_from(name, block)
      for name, block in (described | own).items()}), root


@functools.cache
def _values(name: str) -> dict[str, Any]:
  entry = _content()['experiments'][name]
  schema, root = _schema(entry['task'])
  below = _values(entry['of']) if 'of' in entry else schema.defaults(root)
  return schema.merge(root, below, entry['differs'])


def write(experiments: Mapping[str, Experiment]) -> str:
  """Returns the text of the file.

  Args:
    experiments: All experiments by name, each after the one of its model
      without techniques.
  """
  schemas_by_task = {e.task: (e.schema, e.root) for e in experiments.values()}
  common = {}
  for schema, _ in schemas_by_task.values():
    for name, block in schema.blocks.items():
      common.setdefault(name, []).append(block)
  shared = {name: blocks[0] for name, blocks in common.items()
            if all(block == blocks[0] for block in blocks)}
  content = {
      'official': version(),
      'techniques': [*techniques.TECHNIQUES],
      'roots': {task: root for task, (_, root) in schemas_by_task.items()},
      'blocks': {name: _block_to(shared[name]) for name in sorted(shared)},
      'of_task': {
          task: {name: _block_to(block)
                 for name, block in sorted(schema.blocks.items())
                 if name not in shared}
          for task, (schema, _) in schemas_by_task.items()},
      'experiments': {}}
  for name, entry in experiments.items():
    content['experiments'][name] = _experiment_to(name, entry, experiments)
  return _lines(content) + '\n'


def _lines(content: Mapping[str, Any]) -> str:
  """Returns JSON with a line for every block and every experiment."""
  parts = []
  for name, value in content.items():
    text = json.dumps(value)
    if isinstance(value, Mapping) and value:
      text = '{\n' + ',\n'.join(
          f'  {json.dumps(key)}: {json.dumps(item)}'
          for key, item in value.items()) + '}'
    parts.append(f'{json.dumps(name)}: {text}')
  return '{' + ',\n'.join(parts) + '}'


def _experiment_to(name, entry: Experiment, experiments) -> dict[str, Any]:
  """Returns what an experiment has other than a similar one, or defaults."""
  earlier = [other for other in [*experiments][:[*experiments].index(name)]
             if experiments[other].task == entry.task]
  alike = [other for other in earlier if name.startswith(other)] or earlier[:1]
  schema, root = entry.schema, entry.root
  found = [{'task': entry.task, 'of': other, 'differs': _difference(
      schema, root, experiments[other].values, entry.values)}
           for other in alike] or [{'task': entry.task, 'differs': _difference(
               schema, root, schema.defaults(root), entry.values)}]
  return min(found, key=lambda record: len(json.dumps(record)))


def _difference(
    schema: fields.Schema, name: str, below: Any, above: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the overrides that make the second of two blocks of the first."""
  if not isinstance(below, Mapping):
    below = schema.defaults(name) if name else {}
  entries = schema.blocks[name].fields if name else {}
  return {
      key: _difference(schema, entries[key].block if key in entries else '',
                       below.get(key), value)
      if isinstance(value, Mapping) else value
      for key, value in above.items() if below.get(key) != value}


def _block_to(block: fields.Block) -> dict[str, Any]:
  return {'one_of': block.one_of, 'meaning': block.meaning,
          'fields': {name: _field_to(field)
                     for name, field in block.fields.items()}}


def _block_from(name: str, found: Mapping[str, Any]) -> fields.Block:
  return fields.Block(
      name=name, one_of=found['one_of'], meaning=found['meaning'],
      fields={key: _field_from(value)
              for key, value in found['fields'].items()})


def _field_to(field: fields.Field) -> dict[str, Any]:
  """Returns a field without what has its default."""
  found = {f.name: getattr(field, f.name) for f in dataclasses.fields(field)
           if getattr(field, f.name) != f.default}
  if 'takes' in found:
    found['takes'] = {
        f.name: getattr(field.takes, f.name)
        for f in dataclasses.fields(field.takes)
        if getattr(field.takes, f.name) != f.default}
  if 'element' in found:
    found['element'] = _field_to(field.element)
  return found


def _field_from(found: Mapping[str, Any]) -> fields.Field:
  found = {**found, 'kinds': tuple(found['kinds'])}
  if 'takes' in found:
    takes = dict(found['takes'])
    for name in ('choices', 'length'):
      if name in takes:
        takes[name] = tuple(takes[name])
    found['takes'] = fields.Takes(**takes)
  if 'element' in found:
    found['element'] = _field_from(found['element'])
  return fields.Field(**found)
