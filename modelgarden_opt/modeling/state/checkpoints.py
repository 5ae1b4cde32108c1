"""Loads variables by name from a checkpoint or from another model.

Twins keep the attribute paths of their float blocks, so one walk over two
object graphs by child name serves every case: a float checkpoint into a
quantized model, a pruned one into a pruned and quantized one, a float model in
memory into its twin. Variables that belong to a technique are filtered out on
both sides where the other side does not have them.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
from typing import Any

from absl import logging
import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import techniques
from modelgarden_opt.modeling.state import whole

# First words of the names of variables that a technique adds to a layer.
TECHNIQUE_PREFIXES = tuple(
    technique.variable_prefix for technique in techniques.TECHNIQUES.values())
# Checkpoints whose weights are moving averages: both the official trainer and
# its action save them after exchanging the weights for their averages.
_EXCHANGED = ('best_ckpt-', 'average_weights-')
_VALUE = '/.ATTRIBUTES/VARIABLE_VALUE'
_AVERAGE = '/.OPTIMIZER_SLOT/optimizer/average' + _VALUE
_OBJECT_GRAPH = '_CHECKPOINTABLE_OBJECT_GRAPH'
_OPTIMIZER = 'optimizer'
_MAX_LISTED = 4


class CheckpointMismatchError(errors.UsageError):
  """The variables of a checkpoint and of a model do not fit together."""


@dataclasses.dataclass
class _Source:
  """A readable variable: its shape and how to get its value."""
  shape: tuple[int, ...]
  read: Any


def copy_variables(
    source: tf_keras.Model,
    target: tf_keras.Model,
    value: Callable[[tf.Variable], np.ndarray] = lambda v: v.numpy(),
) -> None:
  """Copies a model's variables into its twin.

  Args:
    source: The float model.
    target: A model of the same structure, see `rewiring.rewire`.
    value: Returns what the target gets of a variable.

  Raises:
    CheckpointMismatchError: If a variable of either model has no counterpart.
  """
  sources = {}
  for path, variable in _variables(source):
    array = value(variable)
    sources[path] = _Source(array.shape, lambda array=array: array)
  if sources:
    _assign(sources, dict(_variables(target)), 'the float model')


def load_checkpoint(
    model: tf_keras.Model,
    path: str,
    modules: str | Sequence[str] = 'all',
    field: str = '',
) -> None:
  """Loads a checkpoint into a float or compressed model, by variable name.

  Of a run that keeps moving averages of its weights these are loaded: they are
  what was evaluated.

  Args:
    model: The model; its `checkpoint_items` name its parts.
    path: A checkpoint's file prefix, or a directory with checkpoints.
    modules: `all`, or parts such as `backbone`, as a list or separated by
      commas.
    field: Name of the configuration field that gave the path, for messages.

  Raises:
    UsageError: If there is no checkpoint at `path`.
    CheckpointMismatchError: If a float variable of the checkpoint has no
      place in the model or the other way round. Nothing is assigned then.
  """
  prefix = resolve(path, field)
  reader = whole.reader_of(prefix)
  items = _checkpoint_items(reader, holds_averages(prefix))
  parts = {'model': model, **getattr(model, 'checkpoint_items', {})}
  if isinstance(modules, str):
    modules = [m.strip() for m in modules.split(',')]
  if 'all' not in modules:
    wanted = list(modules)
  elif 'model' in items:
    wanted = ['model']
  else:
    wanted = [name for name in parts if name in items]
    logging.warning(
        '%s holds no item `model`; loading %s, the rest of the model keeps its '
        'initial values.', prefix, ', '.join(wanted) or 'nothing')
  sources, targets = {}, {}
  for name in wanted:
    if name not in parts:
      raise errors.UsageError(
          f'init_checkpoint_modules: no part {name!r} in this model'
          f'{errors.nearest(name, ["all", *parts])}')
    for key, source in items.get(name, {}).items():
      sources[f'{name}/{key}'] = source
    for key, variable in _variables(parts[name]):
      targets[f'{name}/{key}'] = variable
  _assign(sources, targets, f'checkpoint {prefix!r}')
  logging.info('Loaded %d variables from %s.', len(sources), prefix)


def resolve(path: str, field: str = '') -> str:
  """Returns the file prefix of the checkpoint at `path`.

  Args:
    path: A checkpoint's file prefix, or a directory with checkpoints.
    field: Name of the configuration field that gave the path, for messages.

  Raises:
    UsageError: If there is none.
  """
  # Some file systems take the beginning of a name for a directory.
  if tf.io.gfile.exists(path + '.index'):
    return path
  if tf.io.gfile.isdir(path):
    prefix = whole.latest(path, field)
    if prefix is None:
      raise errors.UsageError(
          f'{field}: directory {path!r} holds no checkpoint; expected a file '
          'prefix such as .../ckpt-1000 or a directory with a `checkpoint` '
          f'file{_neighbours(path)}')
    return prefix
  raise errors.UsageError(
      f'{field}: no checkpoint at {path!r}: there is no file '
      f'{path + ".index"!r}{_neighbours(os.path.dirname(path) or ".")}')


def holds_averages(path: str) -> bool:
  """Whether the weights of a checkpoint are averages, if there are any."""
  return os.path.basename(path).startswith(_EXCHANGED)


def _neighbours(directory: str) -> str:
  """Names what a user might have meant: the checkpoints at and near a path."""
  if not tf.io.gfile.isdir(directory):
    return f'; directory {directory!r} does not exist'
  found = tf.io.gfile.glob(os.path.join(directory, '*.index'))
  found += tf.io.gfile.glob(os.path.join(directory, '*', '*.index'))
  found = sorted(f.removesuffix('.index') for f in found)
  return f'; found there: {", ".join(found[:5]) or "none"}'


def _variables(root: Any) -> Iterator[tuple[str, tf.Variable]]:
  """Yields every variable below `root` once, by attribute path."""
  view = tf.train.TrackableView(root)
  seen = set()

  def walk(node, path):
    if id(node) in seen:
      return
    seen.add(id(node))
    if isinstance(node, tf.Variable):
      yield '/'.join(path), node
      return
    for name, child in _ordered(view.children(node)):
      yield from walk(child, (*path, name))

  yield from walk(root, ())


def _ordered(children: Mapping[str, Any]) -> list[tuple[str, Any]]:
  """Children by name; `layer-N` first, and never by their second name.

  `layer_with_weights-N` counts layers with variables, and a layer may have
  some in the quantized model only. The optimizer of a model that was compiled
  is not a part of it.
  """
  named = [(name, child) for name, child in children.items()
           if not name.startswith('layer_with_weights-')
           and name != _OPTIMIZER]
  return sorted(named, key=lambda item: not item[0].startswith('layer-'))


def _checkpoint_items(
    reader, exchanged: bool = False) -> dict[str, dict[str, _Source]]:
  """Returns the variables of a checkpoint as `{item: {path: source}}`.

  Args:
    reader: Reads the checkpoint.
    exchanged: Whether weights and their moving averages changed places.
  """
  from tensorflow.core.protobuf import trackable_object_graph_pb2  # pylint: disable=g-import-not-at-top
  graph = trackable_object_graph_pb2.TrackableObjectGraph()
  graph.ParseFromString(reader.get_tensor(_OBJECT_GRAPH))
  shapes = reader.get_variable_to_shape_map()

  def walk(node_id, path, seen, found):
    if node_id in seen:
      return
    seen.add(node_id)
    node = graph.nodes[node_id]
    for attribute in node.attributes:
      key = attribute.checkpoint_key
      if attribute.name == 'VARIABLE_VALUE' and key in shapes:
        average = key.removesuffix(_VALUE) + _AVERAGE
        if average in shapes and not exchanged:
          key = average
        found['/'.join(path)] = _Source(
            tuple(shapes[key]), lambda key=key: reader.get_tensor(key))
    children = {c.local_name: c.node_id for c in node.children}
    for name, child in _ordered(children):
      walk(child, (*path, name), seen, found)

  items = {}
  for child in graph.nodes[0].children:
    found: dict[str, _Source] = {}
    walk(child.node_id, (), set(), found)
    if found:
      items[child.local_name] = found
  return items


def _of_technique(path: str) -> bool:
  return path.rpartition('/')[2].startswith(TECHNIQUE_PREFIXES)


def _assign(
    sources: dict[str, _Source], targets: dict[str, tf.Variable], origin: str
) -> None:
  """Assigns every source to the target of the same path, or raises."""
  common = sources.keys() & targets.keys()
  problems = {
      'in the model but missing from the source': sorted(
          p for p in targets.keys() - common if not _of_technique(p)),
      'in the source but unused by the model': sorted(
          p for p in sources.keys() - common if not _of_technique(p)),
      'of another shape': sorted(
          f'{p} {sources[p].shape} -> {tuple(targets[p].shape)}'
          for p in common if sources[p].shape != tuple(targets[p].shape)),
  }
  if any(problems.values()) or not common:
    raise CheckpointMismatchError(
        _report(problems, origin, len(common), len(targets)))
  # In the same order in all processes, since workers read some together.
  for path in sorted(common):
    targets[path].assign(np.asarray(sources[path].read()))


def _report(
    problems: Mapping[str, list[str]], origin: str, matched: int, total: int
) -> str:
  lines = [f'{origin} does not fit the model: {matched} of {total} variable '
           'names match. Is it a checkpoint of another model or width?']
  for problem, paths in problems.items():
    if not paths:
      continue
    groups: dict[str, list[str]] = {}
    for path in paths:
      *module, name = path.split(' ')[0].split('/')
      shown = path.rpartition('/')[2] if ' ' not in path else (
          f'{name} {path.partition(" ")[2]}')
      groups.setdefault('/'.join(module[:3]), []).append(
          '/'.join([*module[3:], shown]))
    lines.append(f'  {len(paths)} variables {problem}:')
    for module, names in list(groups.items())[:_MAX_LISTED]:
      more = len(names) - _MAX_LISTED
      lines.append(f'    {module}: {", ".join(names[:_MAX_LISTED])}'
                   + (f' and {more} more' if more > 0 else ''))
    if len(groups) > _MAX_LISTED:
      lines.append(f'    and {len(groups) - _MAX_LISTED} more modules')
  return '\n'.join(lines)
