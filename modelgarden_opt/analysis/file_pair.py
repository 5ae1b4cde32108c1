"""How far the ops of an integer file are from those of a float file.

Both are run by the reference kernels, one op after the other, with all results
kept. Ops fit each other by the names of their results, else by their order.
"""

from collections.abc import Iterator
import dataclasses
import difflib
from typing import Any

import numpy as np

from modelgarden_opt import errors
from modelgarden_opt.analysis import signals
from modelgarden_opt.evaluation import litert_loading
from modelgarden_opt.evaluation import tensors

# Ops between the grids of two tensors, which a float file does not have.
_CASTS = ('QUANTIZE', 'DEQUANTIZE', 'DENSIFY', 'CAST')
# What one file may write as the other op.
_SAME = {'FULLY_CONNECTED': 'CONV_2D'}
_WITH_BIAS = ('CONV_2D', 'DEPTHWISE_CONV_2D', 'FULLY_CONNECTED',
              'TRANSPOSE_CONV')


@dataclasses.dataclass(kw_only=True)
class OpError(signals.TensorError):
  """The error of one op of the integer file; `layer` names its result.

  Attributes:
    op: E.g. `CONV_2D`.
    dtype: Type of its result.
  """
  op: str
  dtype: str


class _File:
  """A loaded file whose intermediate results can be read."""

  def __init__(self, path: str):
    self.path = path
    self._interpreter = litert_loading.load(
        path, 1, delegates=False, keep_tensors=True)
    inputs = self._interpreter.get_input_details()
    if len(inputs) != 1:
      raise errors.UsageError(
          f'tflite: {path!r} has {len(inputs)} inputs; files with one can be '
          'compared')
    self._input, = inputs
    with litert_loading.named(path):
      self.details = {
          t['index']: t for t in self._interpreter.get_tensor_details()}
      self.ops = [op for op in litert_loading.ops(self._interpreter)
                  if op['op_name'] not in _CASTS and len(op['outputs'])]

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Shape of the input."""
    return tuple(map(int, self._input['shape']))

  def result(self, op: dict[str, Any]) -> dict[str, Any]:
    """Returns the tensor that an op makes."""
    return self.details[int(op['outputs'][0])]

  def run(self, image: np.ndarray) -> None:
    """Runs the file on one input."""
    self._interpreter.set_tensor(
        self._input['index'], tensors.quantize(image, self._input))
    self._interpreter.invoke()

  def values(self, tensor: dict[str, Any]) -> np.ndarray:
    """Returns what a tensor holds."""
    return self._interpreter.get_tensor(tensor['index'])

  def biases(self, op: dict[str, Any]) -> np.ndarray | None:
    """Returns the biases of an op as floats, None without any."""
    if op['op_name'] not in _WITH_BIAS or len(op['inputs']) < 3 or (
        op['inputs'][-1] < 0):
      return None
    tensor = self.details[int(op['inputs'][-1])]
    scales = tensor['quantization_parameters']['scales']
    values = self.values(tensor).astype(np.float64)
    return values * scales if len(scales) else values


def measure(
    float_path: str, integer_path: str, images: np.ndarray) -> list[OpError]:
  """Returns the errors of all ops that both files have.

  Args:
    float_path: A file of floats.
    integer_path: A file of the same network with integers.
    images: float32 array [n, h, w, c], preprocessed; n >= 1.

  Raises:
    UsageError: If a file cannot be read, or they are not of one network.
  """
  floats, integers = _File(float_path), _File(integer_path)
  for file in (floats, integers):
    if file.input_shape[1:] != images.shape[1:]:
      raise errors.UsageError(
          f'tflite: {file.path!r} has inputs of shape '
          f'{list(file.input_shape[1:])}, the images have '
          f'{list(images.shape[1:])}')
  if not _has_integers(integers) or _has_integers(floats):
    raise errors.UsageError(
        'tflite: give the float file first, then the integer one: '
        f'{float_path!r} has {_kinds(floats)} results, {integer_path!r} '
        f'{_kinds(integers)}')
  pairs = list(_pairs(floats, integers))
  if not pairs:
    raise errors.UsageError(
        f'tflite: {float_path!r} and {integer_path!r} have no ops of one kind '
        'and shape in common: they are not of one network')
  sums = [dict.fromkeys(_SUMS, 0.0) | {'lowest': np.inf, 'highest': -np.inf}
          for _ in pairs]
  batch = floats.input_shape[0]
  for start in range(0, len(images) - batch + 1, batch):
    for file in (floats, integers):
      file.run(images[start:start + batch])
    for (a, b), total in zip(pairs, sums):
      _add(total, floats.values(floats.result(a)),
           integers.values(integers.result(b)), integers.result(b))
  return [_error(floats, integers, a, b, total)
          for (a, b), total in zip(pairs, sums)]


_SUMS = ('signal', 'noise', 'clipped', 'saturated', 'size')


def _is_integer(file: _File, op: dict[str, Any]) -> bool:
  return np.issubdtype(file.result(op)['dtype'], np.integer) and (
      len(file.result(op)['quantization_parameters']['scales']) > 0)


def _has_integers(file: _File) -> bool:
  return any(_is_integer(file, op) for op in file.ops)


def _kinds(file: _File) -> str:
  found = {np.dtype(file.result(op)['dtype']).name for op in file.ops}
  return ', '.join(sorted(found))


def _pairs(
    floats: _File, integers: _File
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
  """Yields ops of both files that compute the same."""
  keys = [[(_SAME.get(op['op_name'], op['op_name']),
            int(np.prod(file.result(op)['shape']))) for op in file.ops]
          for file in (floats, integers)]
  names = [[file.result(op)['name'] for op in file.ops]
           for file in (floats, integers)]
  found = {}
  for index, name in enumerate(names[1]):
    if name and names[0].count(name) == names[1].count(name) == 1:
      other = names[0].index(name)
      if keys[0][other] == keys[1][index]:
        found[index] = other
  matcher = difflib.SequenceMatcher(None, *keys, autojunk=False)
  for first, second, size in matcher.get_matching_blocks():
    for offset in range(size):
      if first + offset not in found.values():
        found.setdefault(second + offset, first + offset)
  for index, other in sorted(found.items()):
    yield floats.ops[other], integers.ops[index]


def _add(
    total: dict[str, float], x: np.ndarray, q: np.ndarray,
    tensor: dict[str, Any],
) -> None:
  """Adds one run to the sums of an op."""
  x = x.astype(np.float64).reshape(-1)
  integers = np.issubdtype(q.dtype, np.integer)
  scale, zero_point = tensor['quantization']
  y = q.astype(np.float64).reshape(-1)
  if integers and scale:
    y = (y - zero_point) * scale
  total['signal'] += float(np.sum(x**2))
  total['noise'] += float(np.sum((y - x)**2))
  total['size'] += x.size
  total['lowest'] = min(total['lowest'], float(x.min()))
  total['highest'] = max(total['highest'], float(x.max()))
  if integers and scale:
    low, high = _range(tensor)
    half = scale / 2.0
    total['clipped'] += float(np.sum((x > high + half) | (x < low - half)))
    total['saturated'] += float(np.sum(
        (y > high - half) | ((y < low + half) & (low < -half))))


def _range(tensor: dict[str, Any]) -> tuple[float, float]:
  scale, zero_point = tensor['quantization']
  info = np.iinfo(tensor['dtype'])
  return (info.min - zero_point) * scale, (info.max - zero_point) * scale


def _error(
    floats: _File, integers: _File, a: dict[str, Any], b: dict[str, Any],
    total: dict[str, float],
) -> OpError:
  tensor = integers.result(b)
  result = OpError(
      layer=tensor['name'], op=b['op_name'],
      dtype=np.dtype(tensor['dtype']).name, sqnr_db=signals.sqnr_db(total))
  if _is_integer(integers, b):
    low, high = _range(tensor)
    result.clipped = total['clipped'] / total['size']
    result.saturated = total['saturated'] / total['size']
    used = min(high, total['highest']) - max(low, total['lowest'])
    result.range_use = max(0.0, used) / (high - low)
  biases = floats.biases(a), integers.biases(b)
  if all(bias is not None for bias in biases) and total['signal'] and (
      biases[0].size == biases[1].size):
    noise = np.sqrt(np.mean((biases[1].ravel() - biases[0].ravel())**2))
    result.bias_rounding = float(
        noise / np.sqrt(total['signal'] / total['size']))
  return result
