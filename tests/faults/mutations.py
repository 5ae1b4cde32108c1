"""One mutation of a valid configuration each, generated from the schema.

A generator draws from a `random.Random`, so that a seed repeats it, and so that
hypothesis can draw by it (`strategies.randoms(use_true_random=False)`).
"""

import collections
from collections.abc import Mapping
import copy
import dataclasses
import random
from typing import Any

import yaml

from modelgarden_opt.configs.schema import checking
from modelgarden_opt.configs.schema import fields
from modelgarden_opt.configs.schema import marks
from modelgarden_opt.configs.schema import ranges
from modelgarden_opt.configs.schema import stored

# A value of every type, and values that have been trouble.
_ANY = (None, True, False, 0, -1, 1, 2**63, -2**70, 10**400, 0.5, -0.0, 1e308,
        float('nan'), float('inf'), '', 'x', '*', '../x', '~', 'a\nb', '\x00',
        '\ud800', 'x' * 10_000, [], [None], [[]], [[1]], [{}], [1, 'a'],
        {}, {'a': 1}, {'a': {'b': [1]}}, {1: 2})


@dataclasses.dataclass(frozen=True)
class Mutated:
  """A configuration with one mutation.

  Attributes:
    text: The YAML.
    field: Dotted name of the field, empty where the text was changed.
    kind: What was done.
    breaks: Whether the schema does not take it; None if nobody knows.
  """
  text: str
  field: str
  kind: str
  breaks: bool | None


def mutate(
    rng: random.Random, experiment: stored.Experiment, values: Mapping[str, Any]
) -> Mutated:
  """Returns a configuration with one mutation.

  Args:
    rng: What chance is drawn from.
    experiment: What the configuration is for.
    values: The valid configuration.
  """
  if rng.random() < 0.2:
    return _of_text(rng, yaml.safe_dump(marks.plain(values)))
  kind = rng.choice([*_VALUES, 'name', 'missing'])
  fitting = _fitting(experiment, kind)
  if fitting and rng.random() < 0.5:  # Of kinds that fit few fields.
    path, field = rng.choice(fitting)
    value, breaks = _VALUES[kind](rng, field)
    return _written(values, path, value, kind, breaks)
  path, block, field = _place(rng, experiment, values)
  if kind == 'name':
    wrong = f'{path[-1]}{rng.choice("xs_")}'
    breaks = wrong not in block.fields
    return _written(values, [*path[:-1], wrong], field.default, kind, breaks)
  if kind == 'missing':
    return Mutated(_dump(_without(rng, values)), '', kind, None)
  value, breaks = _VALUES[kind](rng, field)
  if value is _NOTHING:
    value = rng.choice(_ANY)
    kind = 'any'
    breaks = None
  return _written(values, path, value, kind, breaks)


_NOTHING = object()


def _fitting(
    experiment: stored.Experiment, kind: str
) -> list[tuple[list[str | int], fields.Field]]:
  """Returns paths and fields that a kind of mutation fits."""
  schema = id(experiment.schema)
  if schema not in _FITTING:
    found = _FITTING[schema] = collections.defaultdict(list)
    rng = random.Random(0)
    for name, field in fields_of(experiment).items():
      path = [part for word in name.split('.')
              for part in ([word[:-2], 0] if word.endswith('[]') else [word])]
      for other, make in _VALUES.items():
        if make(rng, field)[0] is not _NOTHING:
          found[other].append((path, field))
  return _FITTING[schema][kind]


# Schemas are made once a task, and live as long as the process.
_FITTING: dict[int, dict[str, list[tuple[list[str | int], fields.Field]]]] = {}


def _place(rng, experiment, values):
  """Returns a field anywhere in the schema, or one that the values have."""
  schema = experiment.schema
  name, path = experiment.root, []
  present: Any = values
  while True:
    block = schema.blocks[name]
    keys = [*block.fields]
    known = [key for key in keys if isinstance(present, Mapping)
             and key in present]
    key = rng.choice(known if known and rng.random() < 0.5 else keys)
    field = block.fields[key]
    path.append(key)
    present = present.get(key) if isinstance(present, Mapping) else None
    inner = field.block or (field.element.block if field.element else '')
    if not inner or not schema.blocks[inner].fields or rng.random() < 0.1:
      return path, block, field
    if not field.block:
      path.append(0)  # The first element of a list.
      present = None
    name = inner


def _wrong_type(rng, field: fields.Field):
  kinds = {*field.kinds}
  wrong = [value for value in ('text', 5, 0.5, True, [1], {'a': 1})
           if not _may_be(value, kinds)]
  return (rng.choice(wrong), True) if wrong and 'any' not in kinds else (
      _NOTHING, None)


def _may_be(value: Any, kinds: set[str]) -> bool:
  if isinstance(value, dict):
    return bool({'block', 'any_fields', 'any'} & kinds)
  if isinstance(value, list):
    return bool({'list', 'any'} & kinds)
  if isinstance(value, bool):
    return 'bool' in kinds
  if isinstance(value, int):
    return bool({'int', 'float'} & kinds)
  return type(value).__name__ in kinds


def _null(rng, field):
  del rng
  return None, not (field.nullable or 'any' in field.kinds)


def _out_of_range(rng, field):
  found = ranges.parse(field.takes.range) if field.takes.range else None
  whole = 'int' in field.kinds
  if found is None or not {'int', 'float'} & {*field.kinds}:
    return _NOTHING, None
  outside = [end + sign * distance for end, sign in (
      (found.low, -1), (found.high, 1)) if abs(end) != float('inf')
             for distance in (1, 1000)]
  outside = [int(value) if whole else float(value) for value in outside]
  return rng.choice(outside), True


def _edge(rng, field):
  """Returns an end of a range, which may belong to it."""
  found = ranges.parse(field.takes.range) if field.takes.range else None
  if found is None or not {'int', 'float'} & {*field.kinds}:
    return _NOTHING, None
  ends = [end for end in (found.low, found.high) if abs(end) != float('inf')]
  value = rng.choice(ends)
  value = int(value) if 'int' in field.kinds else float(value)
  return value, value not in found


def _no_choice(rng, field):
  choices = [c for c in field.choices() if isinstance(c, str)]
  if not choices or 'str' not in field.kinds:
    return _NOTHING, None
  value = rng.choice(choices)
  value = rng.choice([f'{value}x', value.upper() + '_', value[1:], ' '])
  return value, value not in choices


def _another_choice(rng, field):
  choices = field.choices()
  return (rng.choice(choices), False) if choices else (_NOTHING, None)


def _no_number(rng, field):
  if 'float' not in field.kinds:
    return _NOTHING, None
  value = rng.choice([float('nan'), float('inf'), float('-inf')])
  return value, not (value > 0 and field.takes.range.endswith('inf]'))


def _too_large(rng, field):
  if not {'int', 'float'} & {*field.kinds}:
    return _NOTHING, None
  return rng.choice([2**64, -2**64, 10**400]), True


def _bad_text(rng, field):
  if 'str' not in field.kinds:
    return _NOTHING, None
  return rng.choice(['a\x00b', '\x1b[2J', '\x7f']), True


def _outside(rng, field):
  if not field.takes.inside:
    return _NOTHING, None
  return rng.choice(['../x', '/x', '~/x', 'a/../../b', 'gs://b/x', '.']), True


def _list(rng, field):
  """Returns a list of a length or with an element that is not taken."""
  if 'list' not in field.kinds or field.element is None:
    return _NOTHING, None
  allowed = field.takes.length
  if allowed and rng.random() < 0.5:
    length = rng.choice([n for n in range(7) if n not in allowed])
    return [1] * length, True
  value, breaks = _wrong_type(rng, field.element)
  return (_NOTHING, None) if value is _NOTHING else (
      [value] * (allowed[-1] if allowed else 1), breaks)


_VALUES = {
    'type': _wrong_type, 'null': _null, 'range': _out_of_range, 'edge': _edge,
    'choice': _no_choice, 'another choice': _another_choice,
    'no number': _no_number, 'too large': _too_large, 'text': _bad_text,
    'outside': _outside, 'list': _list,
    'any': lambda rng, field: (_NOTHING, None)}


def _written(values, path, value, kind, breaks) -> Mutated:
  """Returns the values with one of them set."""
  changed = copy.deepcopy(marks.plain(values))
  block = changed
  for name, following in zip(path, path[1:]):
    wanted = list if following == 0 else dict
    if isinstance(block, list):
      block[:] = [{}]
    elif not isinstance(block.get(name), wanted):
      block[name] = wanted()
    block = block[name]
  block[path[-1]] = value
  return Mutated(_dump(changed), '.'.join(map(str, path)), kind, breaks)


def _without(rng, values) -> dict[str, Any]:
  """Returns values without one of them."""
  changed = copy.deepcopy(marks.plain(values))
  block = changed
  while True:
    key = rng.choice([*block])
    if isinstance(block[key], dict) and block[key] and rng.random() < 0.8:
      block = block[key]
    else:
      del block[key]
      return changed


def _dump(values: Any) -> str:
  return yaml.safe_dump(values)


def _of_text(rng, text: str) -> Mutated:
  """Returns a text with a few characters changed."""
  at = rng.randrange(len(text))
  kind = rng.choice(('cut', 'insert', 'delete', 'line', 'repeat'))
  lines = text.splitlines(keepends=True)
  line = rng.randrange(len(lines))
  if kind == 'cut':
    text = text[:at]
  elif kind == 'insert':
    text = text[:at] + rng.choice(list('{}[]:,&*!|>\'"%@`#-?\t\\\n 0x')) + (
        text[at:])
  elif kind == 'delete':
    text = text[:at] + text[at + rng.randint(1, 5):]
  elif kind == 'line':
    del lines[line]
    text = ''.join(lines)
  else:
    lines.insert(line, lines[line])
    text = ''.join(lines)
    return Mutated(text, '', kind, True if _is_key(lines[line]) else None)
  return Mutated(text, '', kind, None)


def _is_key(line: str) -> bool:
  """Whether a repeated line is a key that is there twice."""
  return line.rstrip().endswith(':') or ': ' in line and not (
      line.lstrip().startswith('-'))


def fields_of(experiment: stored.Experiment) -> dict[str, fields.Field]:
  """Returns every field that a mutation may meet, by its dotted name."""
  return dict(checking.fields_of(experiment.schema, experiment.root))
