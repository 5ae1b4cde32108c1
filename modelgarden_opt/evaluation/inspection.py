"""What the kernels of a `.tflite` file hold, read from the file itself.

Works for files of any origin. Weights that the file stores sparsely or in
float16 are decoded; which tensors are kernels follows from the ops.
"""

from collections.abc import Iterator
import dataclasses
import math
from typing import Any

from ai_edge_litert import schema_py_generated as schema
import numpy as np

from modelgarden_opt.evaluation import model_file

# Op -> axis of the output channels in its kernel, which is input number 1.
_KERNEL_OPS = {
    'CONV_2D': 0,
    'DEPTHWISE_CONV_2D': 3,
    'FULLY_CONNECTED': 0,
    'TRANSPOSE_CONV': 0,
}
_DECODING_OPS = ('DEQUANTIZE', 'DENSIFY')
_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT4: np.int8,
}
_DENSE = schema.DimensionType.DENSE
# Of a kernel; a damaged file may claim any number.
_MAX_ELEMENTS = 2**29


@dataclasses.dataclass(frozen=True)
class Kernel:
  """One kernel of a file.

  Attributes:
    name: The tensor's name.
    op: Name of the op that reads it.
    dtype: Type in which it is stored, e.g. `int8` or `int4`.
    values: The values as stored, in the op's layout.
    channel_axis: Axis of the output channels.
    stored_sparse: Whether only the non-zero values are stored.
    num_scales: How many scales its integers have; 0 for floats.
    scales: Those scales, one or one an output channel.
    zero_points: Their zero points.
    num_saturated_biases: How many int32 biases of its op are at an end of
      int32: in all likelihood they would be larger.
  """
  name: str
  op: str
  dtype: str
  values: np.ndarray
  channel_axis: int
  stored_sparse: bool
  num_scales: int = 0
  scales: np.ndarray | None = None
  zero_points: np.ndarray | None = None
  num_saturated_biases: int = 0

  @property
  def real(self) -> np.ndarray:
    """The values that they stand for, float32 in the op's layout."""
    if self.scales is None:
      return self.values.astype(np.float32)
    shape = np.ones(self.values.ndim, int)
    if self.scales.size > 1:
      shape[self.channel_axis] = self.scales.size
    zeros = np.zeros(1) if self.zero_points is None else self.zero_points
    zeros = zeros.reshape(shape if zeros.size > 1 else 1)
    return ((self.values.astype(np.float32) - zeros) *
            self.scales.reshape(shape)).astype(np.float32)

  @property
  def size(self) -> int:
    """Number of elements."""
    return int(self.values.size)

  @property
  def sparsity(self) -> float:
    """Share of zeros, in [0, 1]."""
    return float(np.mean(self.values == 0))

  @property
  def distinct(self) -> int:
    """Number of distinct values."""
    return len(np.unique(self.values))

  @property
  def distinct_per_channel(self) -> int:
    """Largest number of distinct values in one output channel."""
    by_channel = np.moveaxis(self.values, self.channel_axis, 0)
    return max(len(np.unique(channel)) for channel in by_channel)

  @property
  def m_by_n(self) -> tuple[int, int] | None:
    """(m, n) where any n neighbouring inputs have m zeros or more: 2:4, 1:4.

    The smallest n with the most zeros that holds, None if there is none or
    the kernel is depthwise.
    """
    if self.channel_axis != 0 or not self.values.size:
      return None
    for n in (4, 8, 16):
      if self.values.shape[-1] % n:
        continue
      zeros = np.sum(self.values.reshape(-1, n) == 0, axis=-1).min()
      if zeros:
        return int(zeros), n
    return None

  def record(self) -> dict[str, Any]:
    """Returns what is worth printing, ready for JSON."""
    return {
        'name': self.name,
        'op': self.op,
        'dtype': self.dtype,
        'shape': list(self.values.shape),
        'sparsity': self.sparsity,
        'distinct': self.distinct,
        'distinct_per_channel': self.distinct_per_channel,
        'm_by_n': self.m_by_n and list(self.m_by_n),
        'stored_sparse': self.stored_sparse,
        'num_scales': self.num_scales,
    }


def sparsity(found: list[Kernel]) -> float:
  """Returns the share of zeros among the elements of all kernels."""
  return (sum(k.sparsity * k.size for k in found) /
          max(1, sum(k.size for k in found)))


def kernels(path: str) -> list[Kernel]:
  """Returns the kernels of a file in the order of their ops.

  Args:
    path: The file.

  Raises:
    UsageError: If there is no such file, or it is not a TFLite model.
  """
  with model_file.damage_told(path):
    model = model_file.unpacked(path)
    return [kernel for graph in model.subgraphs
            for kernel in _kernels_of(model, graph)]


def _kernels_of(model: schema.ModelT, graph: Any) -> Iterator[Kernel]:
  names = [_op_name(model, op) for op in graph.operators]
  producers = {int(output): (name, op)
               for name, op in zip(names, graph.operators)
               for output in op.outputs}
  for name, op in zip(names, graph.operators):
    if name not in _KERNEL_OPS:
      continue
    index = int(op.inputs[1])
    while index in producers and producers[index][0] in _DECODING_OPS:
      index = int(producers[index][1].inputs[0])
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None or tensor.type not in _DTYPES:
      continue
    dtype = _DTYPES[tensor.type]
    shape = tuple(int(size) for size in tensor.shape)
    stored, four_bits = np.asarray(data, np.uint8), (
        tensor.type == schema.TensorType.INT4)
    values = (_unpack(stored, shape) if four_bits
              else np.frombuffer(stored.tobytes(), dtype))
    yield Kernel(
        tensor.name.decode(), name,
        'int4' if four_bits else np.dtype(dtype).name,
        values.reshape(shape) if tensor.sparsity is None
        else _densify(values, shape, tensor.sparsity),
        _KERNEL_OPS[name], tensor.sparsity is not None,
        *_scales(tensor), num_saturated_biases=_saturated(model, graph, op))


def _saturated(model: schema.ModelT, graph: Any, op: Any) -> int:
  """Returns how many int32 biases of an op are at an end of int32."""
  found = [graph.tensors[int(i)] for i in op.inputs[2:] if i >= 0]
  ends = np.iinfo(np.int32)
  for tensor in found:
    data = model.buffers[tensor.buffer].data
    if tensor.type == schema.TensorType.INT32 and data is not None:
      values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.int32)
      return int(np.sum((values == ends.min) | (values == ends.max)))
  return 0


def _scales(
    tensor: schema.TensorT) -> tuple[int, np.ndarray | None, np.ndarray | None]:
  """Returns the number of scales of a tensor, the scales, and zero points."""
  scales = getattr(tensor.quantization, 'scale', None)
  if scales is None or not np.size(scales):
    return 0, None, None
  zeros = tensor.quantization.zeroPoint
  return (int(np.size(scales)), np.asarray(scales, np.float32),
          None if zeros is None or not np.size(zeros) else np.asarray(zeros))


def _unpack(stored: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Returns the values of 4 bits in bytes, the lower half of a byte first."""
  pairs = np.stack([stored << 4, stored], axis=-1).astype(np.int8) >> 4
  return pairs.ravel()[:int(np.prod(shape))]


def _op_name(model: schema.ModelT, op: Any) -> str:
  code = model.operatorCodes[op.opcodeIndex]
  number = max(code.builtinCode, code.deprecatedBuiltinCode)
  return next(name for name, value in vars(schema.BuiltinOperator).items()
              if value == number)


def _densify(
    values: np.ndarray, shape: tuple[int, ...], sparsity: Any) -> np.ndarray:
  """Returns a sparsely stored tensor in full.

  Dimensions are traversed in the stored order, those of blocks last. Each
  level either holds every coordinate or, like a CSR matrix, lists them.
  Source: the comments of `SparsityParameters` in TFLite's schema.fbs.
  """
  order = np.asarray(sparsity.traversalOrder)
  coordinates = np.zeros([1, len(order)], np.int64)
  sizes = np.ones(len(order), np.int64)
  for dimension, level in zip(order, sparsity.dimMetadata):
    if level.format == _DENSE:
      sizes[dimension] = level.denseSize
      if not 0 <= level.denseSize * len(coordinates) <= _MAX_ELEMENTS:
        raise ValueError(f'a dense size of {level.denseSize}')
      counts = np.full(len(coordinates), level.denseSize)
      listed = np.tile(np.arange(level.denseSize), len(coordinates))
    else:
      counts = np.diff(np.asarray(level.arraySegments.values, np.int64))
      listed = np.asarray(level.arrayIndices.values, np.int64)
    if counts.sum() > _MAX_ELEMENTS or counts.sum() != len(listed):
      raise ValueError(f'{counts.sum()} elements of a sparse kernel')
    coordinates = np.repeat(coordinates, counts, axis=0)
    coordinates[:, dimension] = listed
  blocks = [] if sparsity.blockMap is None else list(sparsity.blockMap)
  for position, dimension in enumerate(blocks):
    block = len(shape) + position
    coordinates[:, dimension] *= sizes[block]
    coordinates[:, dimension] += coordinates[:, block]
  if not 0 <= math.prod(shape) <= _MAX_ELEMENTS:
    raise ValueError(f'a kernel of shape {list(shape)}')
  dense = np.zeros(shape, values.dtype)
  dense[tuple(coordinates[:, :len(shape)].T)] = values[:len(coordinates)]
  return dense
