"""The schema, as dataclasses, docstrings and `model_garden` describe it."""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
import re
import types
import typing
from typing import Any

from official.modeling import hyperparams
from official.modeling.hyperparams import oneof

from modelgarden_opt.configs.schema import fields
from modelgarden_opt.configs.schema import model_garden

_PACKAGE = 'modelgarden_opt.'


def name_of(cls: type) -> str:
  """Returns the name of a block: that of its class, with the module."""
  return f'{cls.__module__}.{cls.__qualname__}'


def plain(value: Any) -> Any:
  """Returns a configuration as dictionaries, lists and scalars.

  Unlike `as_dict` it keeps the fields that a `type` does not choose.
  """
  if isinstance(value, hyperparams.Config):
    return {name: plain(item) for name, item in value.__dict__.items()
            if name not in value.RESERVED_ATTR}
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  return value


def schema_of(config: hyperparams.Config) -> fields.Schema:
  """Returns the schema of everything that a configuration reaches."""
  blocks: dict[str, fields.Block] = {}
  queue = [config]
  while queue:
    described = queue.pop()
    name = name_of(type(described))
    if name not in blocks:
      blocks[name], inner = _block(type(described), described)
      queue += inner
  return fields.Schema(blocks)


def _block(
    cls: type, config: hyperparams.Config
) -> tuple[fields.Block, list[hyperparams.Config]]:
  """Returns a block, and a configuration of every block that it holds."""
  hints, default = _hints(cls), _default(cls)
  described, inner = {}, []
  meanings, takes = _meanings(cls), _takes_by_name(cls)
  for name in (n for n in config.__dict__ if n not in config.RESERVED_ATTR):
    field, held = _field(hints.get(name, Any), getattr(config, name),
                         takes.get(name))
    present = getattr(default, name, None)
    described[name] = dataclasses.replace(
        field, default={} if field.block and present is not None
        else plain(present),
        meaning=meanings.get(name, '') or field.takes.meaning)
    if field.block and present is not None:
      described[name] = dataclasses.replace(
          described[name],
          default=_difference(plain(_default(type(present))), plain(present)))
    inner += held
  return fields.Block(
      name=name_of(cls), fields=described,
      one_of=issubclass(cls, oneof.OneOfConfig),
      meaning=(cls.__doc__ or '').strip().partition('\n')[0]), inner


def _difference(below: dict, above: dict) -> dict:
  """Returns the overrides that make one of two plain blocks of the other."""
  return {
      key: _difference(below[key], value)
      if isinstance(value, dict) and isinstance(below.get(key), dict) else value
      for key, value in above.items() if below.get(key) != value}


@functools.cache
def _default(cls: type) -> hyperparams.Config:
  """Returns a block without overrides, to be read only: making one is slow."""
  return cls()


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
  return typing.get_type_hints(cls)


@functools.cache
def _takes_by_name(cls: type) -> dict[str, fields.Takes]:
  """Returns what the fields of a class take, where anything is said."""
  classes = [base.__name__ for base in cls.__mro__]
  found = {}
  for described in dataclasses.fields(cls):
    takes = fields.said_by(described) or (
        model_garden.takes(classes, described.name))
    if takes is not None:
      found[described.name] = takes
  return found


def attributes(cls: type) -> dict[str, str]:
  """Returns what the docstring of a class says about its attributes."""
  found = {}
  text = (cls.__doc__ or '').partition('Attributes:')[2]
  for entry in re.split(r'\n    +(?=\w+: )', text):
    name, separator, meaning = entry.partition(': ')
    if separator:
      found[name.strip()] = ' '.join(meaning.split())
  return found


@functools.cache
def _meanings(cls: type) -> dict[str, str]:
  meanings = {}
  for base in reversed(cls.__mro__):
    meanings |= attributes(base)
  return meanings


def _alternatives(hint: Any) -> Iterator[Any]:
  """Yields the members of a union, or the annotation alone."""
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    for member in typing.get_args(hint):
      yield from _alternatives(member)
  else:
    yield hint


def _field(
    hint: Any, value: Any, takes: fields.Takes | None
) -> tuple[fields.Field, list[hyperparams.Config]]:
  """Returns a field without default, and what it holds."""
  takes = takes or fields.Takes()
  kinds, block, element, inner = [], '', None, []
  nullable = takes.nullable
  if isinstance(value, hyperparams.Config) and type(value) is not (
      hyperparams.Config):
    # What an experiment holds may be of a subclass of what is annotated.
    hint = type(value) | None if type(None) in _alternatives(
        hint) else type(value)
  for kind in _alternatives(hint):
    origin = typing.get_origin(kind) or kind
    if kind is type(None):
      nullable = True
    elif kind is Any or not isinstance(origin, type):
      kinds.append('any')
    elif issubclass(origin, hyperparams.Config):
      if origin is hyperparams.Config or getattr(
          origin, 'TAKES_ANY_FIELD', False):
        kinds.append('any_fields')
      else:
        kinds.append('block')
        block = name_of(origin)
        inner.append(value if isinstance(value, origin) else _default(origin))
    elif origin in (bool, int, float, str):
      kinds.append(origin.__name__)
    else:  # A list, a tuple or a sequence.
      kinds.append('list')
      element, held = _element(typing.get_args(kind), takes)
      inner += held
      takes = dataclasses.replace(takes, length=takes.length or _length(kind))
  if kinds == ['block']:  # Of a field that elsewhere is a number.
    takes = fields.Takes(meaning=takes.meaning)
  return fields.Field(kinds=tuple(dict.fromkeys(kinds)), nullable=nullable,
                      takes=takes, block=block, element=element), inner


def _element(
    arguments: Sequence[Any], takes: fields.Takes
) -> tuple[fields.Field, list[hyperparams.Config]]:
  """Returns the elements of a list, which take what the list takes."""
  found, inner = _field(arguments[0] if arguments else Any, None, takes)
  return dataclasses.replace(found, nullable=takes.null_elements), inner


def _length(kind: Any) -> tuple[int, ...]:
  """Returns the length of a tuple of fixed length."""
  arguments = typing.get_args(kind)
  fixed = typing.get_origin(kind) is tuple and Ellipsis not in arguments
  return (len(arguments),) if fixed and arguments else ()
