"""Saved Keras models of strangers: what would run code is found before.

Keras' own safe mode knows the Lambda layers of `.keras` files. Configurations
also name functions and classes of any module, ops of TensorFlow, and a
SavedModel holds graphs.
"""

import builtins
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import json
import os
import re
import sys
from typing import Any
import zipfile

from absl import logging
import h5py
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import user_modules
from modelgarden_opt.configs import modules
from modelgarden_opt.modeling import hdf5

KERAS_2 = ('build it with tf_keras (`import tf_keras as keras`), or set the '
           'environment variable TF_USE_LEGACY_KERAS=1 before TensorFlow is '
           'imported, whose own Keras is the same then')
# Unpacked, all that an archive holds; of a configuration.
_MAX_BYTES, _MAX_CONFIG_BYTES = 2**32, 2**26
# Packages whose classes and functions a configuration may name.
_PACKAGES = ('keras', 'tf_keras', 'official', 'modelgarden_opt',
             'tensorflow_model_optimization')
# Functions of TensorFlow that compute on tensors and do nothing else.
_OPS = re.compile(
    r'(tf\.)?((compat\.v1\.)?(math|nn|image|linalg|signal|quantization|random|'
    r'bitwise|__operators__|keras\.(activations|backend))\.[\w.]+|'
    r'abs|add(_n)?|cast|clip_by_\w+|concat|constant|convert_to_tensor|cumsum|'
    r'divide|einsum|equal|exp|expand_dims|eye|fill|gather(_nd)?|greater\w*|'
    r'identity|less\w*|maximum|minimum|multiply|negative|not_equal|one_hot|'
    r'ones(_like)?|pad|pow|range|rank|reduce_\w+|repeat|reshape|reverse|roll|'
    r'round|shape|sign|sigmoid|size|slice|sort|split|sqrt|square|squeeze|stack|'
    r'strided_slice|subtract|tanh|tensordot|tile|transpose|unstack|where|'
    r'zeros(_like)?)')
_SPECS = re.compile(r'tensorflow\.python\.framework\.\w+\.\w+Spec')
# Ops of graphs that read or write files, load libraries, or call Python.
_GRAPH_OPS = frozenset({
    'WriteFile', 'ReadFile', 'MatchingFiles', 'PyFunc', 'PyFuncStateless',
    'EagerPyFunc', 'DebugIdentity', 'DebugIdentityV2', 'DebugIdentityV3',
    'CreateSummaryFileWriter', 'CreateSummaryDbWriter', 'DumpTensor',
    'PrintV2', 'WholeFileReaderV2', 'TFRecordReaderV2', 'TextLineReaderV2',
    'DataServiceDatasetV4', 'RegisterDatasetV2', 'SnapshotDatasetV2'})


def load(
    path: str,
    field: str,
    safe_mode: bool = True,
    custom_objects: Mapping[str, Any] | None = None,
    compiled: bool = False,
) -> Any:
  """Loads a saved model of tf_keras.

  Args:
    path: A `.keras` or HDF5 file, or a SavedModel.
    field: Where it comes from, for messages.
    safe_mode: Whether a model is refused that would run code of its own.
    custom_objects: Classes and functions by name that it may use.
    compiled: Whether the model is compiled as it was saved.

  Raises:
    UsageError: If it would run code, or cannot be loaded.
  """
  try:
    if hdf5.is_one(path):
      hdf5.assert_ends(path, field)
    configs = _configs(path)
    if safe_mode:
      _refuse([found for config in configs for found in problems(
          config, custom_objects or {})] + _of_graphs(path), path, field)
    options = {'safe_mode': safe_mode} if _is_archive(path) else {}
    with _without_log():
      return tf_keras.models.load_model(
          path, custom_objects, compile=compiled, **options)
  except errors.UsageError:
    raise
  except Exception as e:  # Keras, HDF5 and TensorFlow raise what they want.
    raise errors.UsageError(
        f'{field}: tf_keras cannot load {path!r}: {_reason(path, e)}') from e


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
  """Leaves out what TensorFlow logs of damage that does not matter to it."""
  before = logging.get_verbosity()
  logging.set_verbosity(logging.FATAL)
  try:
    yield
  finally:
    logging.set_verbosity(before)


def from_config(
    config: Any, path: str, field: str, safe_mode: bool = True) -> Any:
  """Returns the model that a configuration describes, without its weights.

  Args:
    config: What `tf_keras.saving.serialize_keras_object` returned.
    path: The file that it was read from, for messages.
    field: See `load`.
    safe_mode: See `load`.
  """
  if safe_mode:
    _refuse([*problems(config, {})], path, field)
  try:
    return tf_keras.saving.deserialize_keras_object(
        config, safe_mode=safe_mode)
  except Exception as e:
    raise errors.UsageError(
        f'{field}: {path!r} describes no model: {_short(e)}') from e


def _refuse(found: list[str], path: str, field: str) -> None:
  if found:
    raise errors.UsageError(
        f'{field}: {path!r} runs code of its own: '
        f'{"; ".join(dict.fromkeys(found))}. Build it without, or, if you '
        'trust who made it, load it with safe_mode: false')


def _is_archive(path: str) -> bool:
  return path.endswith('.keras') and zipfile.is_zipfile(path)


def _configs(path: str) -> list[Any]:
  """Returns the configurations that a saved model holds.

  Raises:
    UsageError: If it is too large.
  """
  if tf.io.gfile.isdir(path):
    return _of_saved_model(path)
  if zipfile.is_zipfile(path):
    with zipfile.ZipFile(path) as archive:
      size = sum(entry.file_size for entry in archive.infolist())
      config = archive.getinfo('config.json')
      if size > _MAX_BYTES or config.file_size > _MAX_CONFIG_BYTES:
        raise errors.UsageError(
            f'{path!r} holds {size:,} bytes, {config.file_size:,} of them in '
            f'its configuration; at most {_MAX_BYTES:,} and '
            f'{_MAX_CONFIG_BYTES:,} are read')
      return [json.loads(archive.read(config))]
  with h5py.File(path, 'r') as file:
    return [json.loads(file.attrs[name]) for name in (
        'model_config', 'training_config') if name in file.attrs]


def _of_saved_model(path: str) -> list[Any]:
  """Returns the configurations of the layers of a SavedModel."""
  # pylint: disable=g-import-not-at-top
  from tf_keras.protobuf import saved_metadata_pb2
  file = os.path.join(path, 'keras_metadata.pb')
  if not tf.io.gfile.exists(file):
    return []
  with tf.io.gfile.GFile(file, 'rb') as f:
    nodes = saved_metadata_pb2.SavedMetadata.FromString(f.read()).nodes
  return [json.loads(node.metadata) for node in nodes]


def _of_graphs(path: str) -> list[str]:
  """Returns the ops of a SavedModel that do more than compute."""
  file = os.path.join(path, 'saved_model.pb')
  if not tf.io.gfile.isdir(path) or not tf.io.gfile.exists(file):
    return []
  # pylint: disable=g-import-not-at-top
  from tensorflow.core.protobuf import saved_model_pb2
  with tf.io.gfile.GFile(file, 'rb') as f:
    graphs = saved_model_pb2.SavedModel.FromString(f.read()).meta_graphs
  ops = {node.op for graph in graphs for nodes in (
      graph.graph_def.node, *(f.node_def for f in
                              graph.graph_def.library.function))
         for node in nodes}
  return [f'its graph has the op {op}' for op in sorted(ops & _GRAPH_OPS)]


def problems(
    config: Any, custom_objects: Mapping[str, Any], layer: str = ''
) -> Iterator[str]:
  """Yields what in a configuration would run code of its own.

  Args:
    config: Any part of it.
    custom_objects: Classes and functions by name that it may use.
    layer: Name of the layer that it is part of.
  """
  if isinstance(config, list):
    for item in config:
      yield from problems(item, custom_objects, layer)
  if not isinstance(config, dict):
    return
  inner = config.get('config')
  if isinstance(inner, dict) and isinstance(inner.get('name'), str):
    layer = inner['name']
  yield from _of_object(config, custom_objects, layer)
  for value in config.values():
    yield from problems(value, custom_objects, layer)


def _of_object(
    config: Mapping[str, Any], custom_objects: Mapping[str, Any], layer: str
) -> Iterator[str]:
  """Yields what is wrong with a single object, not with what it holds."""
  kind, module = config.get('class_name'), config.get('module')
  place = f'layer {layer!r}' if layer else 'the model'
  if kind in ('Lambda', '__lambda__'):
    yield f'{place} is a Lambda' if kind == 'Lambda' else (
        f'{place} has a function that is stored as code')
  elif kind == 'TFOpLambda':
    op = str((config.get('config') or {}).get('function', ''))
    if not _OPS.fullmatch(op):
      yield f'{place} calls tf.{op.removeprefix("tf.")}'
  elif kind == 'ClassMethod':
    yield f'{place} calls a class of TensorFlow'
  elif kind == '__typespec__':
    if not _SPECS.fullmatch(f'{module}.{config.get("spec_name")}'):
      yield f'{place} needs {config.get("spec_name")!r} of {module!r}'
  elif isinstance(module, str) and isinstance(kind, str):
    named = str(config.get('config')) if kind == 'function' else kind
    registered = named if kind == 'function' else str(
        config.get('registered_name') or kind)
    if tf_keras.saving.get_registered_object(
        registered, dict(custom_objects)) is None and not _may_be_named(
            module, named):
      yield f'{place} needs {named!r} of the module {module!r}'


def _may_be_named(module: str, name: str) -> bool:
  """Whether a stranger's file may name what is in a module."""
  if module == 'builtins':  # Functions of Keras are said to be there.
    return not hasattr(builtins, name)
  if modules.is_below(module, (*_PACKAGES, *user_modules.named_by_flag)):
    return True
  return module in sys.modules and modules.is_of_user(module)


def _reason(path: str, error: Exception) -> str:
  """Returns why a saved model cannot be loaded: Keras 3 wrote it, or as said.
  """
  try:
    with zipfile.ZipFile(path) as content:
      version = json.loads(content.read('metadata.json'))['keras_version']
  except Exception:  # Whatever is wrong with that, too.
    return _short(error)
  if not str(version).startswith('3.'):
    return _short(error)
  return f'it was saved by Keras {version}, and Keras 2 is needed: {KERAS_2}'


def _short(error: Exception) -> str:
  text = ' '.join(errors.of_op(error).split()) or type(error).__name__
  return text if len(text) <= 300 else f'{text[:300]}...'
