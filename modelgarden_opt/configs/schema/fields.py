"""Fields and blocks of a configuration, described as data.

A field of a dataclass of this package says beside its default what it takes:

    frequency: int = fields.field(100, range='>= 1', unit='steps')

What the Model Garden's own fields take is in `model_garden`. `live` puts both
together with types, defaults and docstrings; `stored` keeps the result in a
file, so that it can be read without TensorFlow.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import importlib
import sys
from typing import Any

_KEY = 'schema'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Takes:
  """What a field takes, beyond its type.

  Attributes:
    range: Range of a number (of the elements of a list), see `ranges`.
    choices: All values, or all texts, that there are; empty for any.
    registry: `module:name` of a mapping whose keys are choices as well, once
      that module is imported.
    unit: Unit of a number.
    length: Numbers of elements that a list may have; empty for any.
    nullable: Whether null is a value, whatever the annotation says.
    null_elements: Whether null may be an element.
    inside: Whether it names a place below the run directory.
    meaning: What it means, where no docstring says so.
    example: A value as YAML.
  """
  range: str = ''
  choices: tuple[Any, ...] = ()
  registry: str = ''
  unit: str = ''
  length: tuple[int, ...] = ()
  nullable: bool = False
  null_elements: bool = False
  inside: bool = False
  meaning: str = ''
  example: str = ''


def field(
    default: Any = dataclasses.MISSING,
    *,
    default_factory: Callable[[], Any] = dataclasses.MISSING,
    **takes: Any,
) -> Any:
  """Returns a dataclass field that says what it takes.

  Args:
    default: Its default.
    default_factory: Makes its default.
    **takes: Fields of `Takes`.
  """
  if 'choices' in takes:
    takes['choices'] = tuple(takes['choices'])
  metadata = {_KEY: Takes(**takes)}
  if default is not dataclasses.MISSING:
    return dataclasses.field(default=default, metadata=metadata)
  return dataclasses.field(default_factory=default_factory, metadata=metadata)


def said_by(described: dataclasses.Field) -> Takes | None:
  """Returns what a dataclass field says that it takes, if it says so."""
  return described.metadata.get(_KEY)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
  """One field of a block, or the elements of a list.

  Attributes:
    kinds: What its values are: `bool`, `int`, `float`, `str`, `list`, `block`
      (fields), `any` (fields of any name); several for a union.
    nullable: Whether null is a value.
    default: Its default as plain data; None for a block, whose fields have
      theirs.
    takes: What it takes beyond that.
    block: Name of the block, of kind `block`.
    element: The elements, of kind `list`; for a list of fixed length all of
      them are alike.
    meaning: What it means.
  """
  kinds: tuple[str, ...]
  nullable: bool = False
  default: Any = None
  takes: Takes = Takes()
  block: str = ''
  element: 'Field | None' = None
  meaning: str = ''

  def choices(self) -> list[Any]:
    """Returns all values that there are, registered ones too; empty for any."""
    found = list(self.takes.choices)
    module, _, name = self.takes.registry.partition(':')
    if module in sys.modules:
      registered = getattr(importlib.import_module(module), name)
      found += [value for value in registered if value not in found]
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
  """A block of fields.

  Attributes:
    name: Name of its class.
    fields: Its fields by name.
    one_of: Whether `type` names the field that counts.
    meaning: First line of the docstring.
  """
  name: str
  fields: Mapping[str, Field]
  one_of: bool = False
  meaning: str = ''


@dataclasses.dataclass(frozen=True)
class Schema:
  """All blocks that a configuration is made of, by the names of their classes.
  """
  blocks: Mapping[str, Block]

  def defaults(self, name: str) -> dict[str, Any]:
    """Returns the defaults of a block as plain data."""
    return {key: self.default(entry)
            for key, entry in self.blocks[name].fields.items()}

  def default(self, entry: Field) -> Any:
    """Returns the default of a field: of a block that is on, those of its own.
    """
    if entry.block and entry.default is not None:
      return self.merge(entry.block, self.defaults(entry.block), entry.default)
    return entry.default

  def merge(
      self, name: str, below: Mapping[str, Any], above: Mapping[str, Any]
  ) -> dict[str, Any]:
    """Returns the values of a block with overrides applied.

    Fields of blocks are overridden one by one, lists and all else as a whole.

    Args:
      name: Name of the block, empty for one with fields of any name.
      below: Its values.
      above: Overrides that fit the schema.
    """
    merged = left_by(below, above)
    entries = self.blocks[name].fields if name else {}
    for key, value in above.items():
      entry = entries.get(key)
      merged[key] = self.overridden(entry, merged.get(key), value)
    return merged

  def overridden(self, entry: Field | None, below: Any, value: Any) -> Any:
    """Returns what an override makes of one value."""
    if isinstance(value, Mapping):
      name = entry.block if entry else ''
      if not isinstance(below, Mapping):
        below = self.defaults(name) if name else {}
      return self.merge(name, below, value)
    if isinstance(value, (list, tuple)):
      element = entry.element if entry else None
      return [self.overridden(element, None, item) for item in value]
    return value


def left_by(
    below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the values of a block that overrides begin with.

  They are those from below. But arguments go with their builder: those of
  another one are dropped.
  """
  builder = below.get('builder')
  other = builder and above.get('builder', builder) != builder
  return {key: value for key, value in below.items()
          if not (other and key == 'arguments')}


def lookup(
    schema: Schema, root: str, path: Sequence[str]
) -> tuple[Block, str, Field]:
  """Returns the block, the name and the field that a dotted path leads to.

  Args:
    schema: The schema.
    root: Name of the block where it begins.
    path: Names of fields; the elements of a list are not named.

  Raises:
    KeyError: With the path to the block that has no such field, and the name.
  """
  block = schema.blocks[root]
  for index, name in enumerate(path):
    if name not in block.fields:
      raise KeyError('.'.join(path[:index]), name, block)
    entry = block.fields[name]
    if index == len(path) - 1:
      return block, name, entry
    inner = entry.block or (entry.element.block if entry.element else '')
    if not inner:
      raise KeyError('.'.join(path[:index + 1]), path[index + 1], None)
    block = schema.blocks[inner]
  raise KeyError('', '', block)
