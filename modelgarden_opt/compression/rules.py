"""Rules: which technique treats which layer, with which parameters.

A path names one sub-layer of the model and does not depend on how many models
were built before in the process: `backbone/inverted_bottleneck_block_3/conv1`
is sub-layer `_conv1` of the fourth such block of the backbone.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import fnmatch
import re
from typing import Any

PACKAGE = 'modelgarden_opt'


@dataclasses.dataclass(frozen=True)
class Rule:
  """Overrides the parameters of a technique where a layer matches.

  Attributes:
    path: Glob over layer paths; `*` also crosses `/`.
    layer_type: Glob over class names of float layers, e.g. `Conv2D`.
    parameters: Parameter overrides; `{'enabled': False}` leaves the layer out.
  """
  path: str = '*'
  layer_type: str = '*'
  parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def matches(self, path: str, layer_type: str) -> bool:
    return (fnmatch.fnmatchcase(path, self.path) and
            fnmatch.fnmatchcase(layer_type, self.layer_type))


def from_configs(configs: Iterable[Any]) -> list[Rule]:
  """Returns the rules of a block; fields left at None override nothing.

  Args:
    configs: The block's `rules`.
  """
  result = []
  for config in configs:
    fields = config.as_dict()
    path, layer_type = fields.pop('path'), fields.pop('layer_type')
    parameters = {k: v for k, v in fields.items() if v is not None}
    result.append(Rule(path, layer_type, parameters))
  return result


class Rules:
  """An ordered list of rules over defaults; the last match wins per field."""

  def __init__(self, rules: Iterable[Rule] = (), **defaults: Any):
    self._rules = tuple(rules)
    self._defaults = defaults
    self._matched: set[int] = set()
    self._seen: dict[str, str] = {}

  def resolve(self, path: str, layer_type: str) -> dict[str, Any]:
    """Returns the parameters in force for one layer."""
    self._seen[path] = layer_type
    parameters = dict(self._defaults)
    for index, rule in enumerate(self._rules):
      if rule.matches(path, layer_type):
        self._matched.add(index)
        parameters.update(rule.parameters)
    return parameters

  def assert_all_matched(self) -> None:
    """Raises `ValueError` that names every rule no layer matched."""
    idle = [r for i, r in enumerate(self._rules) if i not in self._matched]
    if idle:
      lines = [f'rule {{path: {r.path!r}, layer_type: {r.layer_type!r}}} '
               f'matches no layer{self._hint(r)}' for r in idle]
      raise ValueError('; '.join(lines))

  def _hint(self, rule: Rule) -> str:
    types = sorted(set(self._seen.values()))
    if rule.layer_type != '*' and not fnmatch.filter(types, rule.layer_type):
      return f'; layer types of this model: {", ".join(types)}'
    return f'; a path of this model: {min(self._seen, default="(none)")}'


def float_class(cls: type) -> type:
  """Returns the float layer class of a leaf or twin class."""
  return next(base for base in cls.__mro__
              if base.__module__.split('.')[0] != PACKAGE)


def float_type(layer: Any) -> str:
  """Returns the class name of the float counterpart of a layer."""
  return float_class(type(layer)).__name__


def snake_case(name: str) -> str:
  """`Conv2DBNBlock` -> `conv2dbn_block`, as Keras names layers."""
  name = re.sub(r'(.)([A-Z][a-z0-9]+)', r'\1_\2', name)
  return re.sub(r'([a-z])([A-Z])', r'\1_\2', name).lower()


def layer_paths(layers: Iterable[Any], prefix: str = '') -> dict[int, str]:
  """Returns `{id(layer): path}` for the layers of one functional model."""
  counts: dict[str, int] = {}
  paths = {}
  for layer in layers:
    name = snake_case(float_type(layer))
    index = counts.get(name, 0)
    counts[name] = index + 1
    paths[id(layer)] = f'{prefix}{name}_{index}'
  return paths
