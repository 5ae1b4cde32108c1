"""What the rules of delegates look at: ops and tensors of a `.tflite` file."""

import collections
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import math
import struct
from typing import Any

from ai_edge_litert import schema_py_generated as schema
import numpy as np

from modelgarden_opt import errors
from modelgarden_opt import files

# Larger files are not read.
MAX_BYTES = 2**30
# Ops with a kernel, which is operand 1.
_KERNEL_OPS = ('CONV_2D', 'DEPTHWISE_CONV_2D', 'FULLY_CONNECTED',
               'TRANSPOSE_CONV')
_FLOATS = {schema.TensorType.FLOAT32: np.float32,
           schema.TensorType.FLOAT16: np.float16}
# Elements of a constant whose values are kept.
_SHORT = 16
# Axes of height and width in activations and in kernels of four dimensions.
_HEIGHT, _WIDTH = 1, 2


def _names(enum: type) -> dict[int, str]:
  return {value: name for name, value in vars(enum).items()
          if isinstance(value, int)}


_OP_NAMES = _names(schema.BuiltinOperator)
_DTYPES = {value: name.lower()
           for value, name in _names(schema.TensorType).items()}


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor of a file.

  Attributes:
    name: Its name, where layers left theirs.
    dtype: E.g. `float32`, `int8`, `int4`.
    shape: Its shape; a dimension that is open is 1 here.
    dynamic: Whether a dimension is open.
    num_scales: How many scales it has, 0 for floats.
    constant: Whether the file holds its values.
    scale: Its scale if it has one only.
    zero_point: What stands for 0 if it has one scale.
    zeros: Number of zeros of a float constant.
    values: The values of a short int32 constant, flat; of others none.
  """
  name: str
  dtype: str
  shape: tuple[int, ...]
  dynamic: bool
  num_scales: int
  constant: bool
  scale: float | None = None
  zero_point: int = 0
  zeros: int = 0
  values: tuple[int, ...] = ()

  @property
  def size(self) -> int:
    """Number of elements."""
    return math.prod(self.shape)

  def record(self) -> dict[str, Any]:
    """Returns `name`, `dtype`, `shape` and `scale`, ready for JSON."""
    return {'name': self.name, 'dtype': self.dtype, 'shape': list(self.shape),
            'scale': self.scale, 'zero_point': self.zero_point}

  def __str__(self) -> str:
    scale = '' if self.scale is None else f', scale {self.scale:.4g}'
    return f'{self.name} {self.dtype} {list(self.shape)}{scale}'


@dataclasses.dataclass(frozen=True)
class Op:
  """An op of a file; the properties are what rules compare.

  Attributes:
    name: E.g. `CONV_2D`; that of a custom op is its custom code.
    custom: Whether it is a custom op.
    operands: Its operands, None where an optional one is left out.
    results: Its results.
    options: Its options, as the schema names them.
  """
  name: str
  custom: bool
  operands: tuple[Tensor | None, ...]
  results: tuple[Tensor, ...]
  options: dict[str, Any]

  @property
  def where(self) -> str:
    """Name of the first result, which names the layer."""
    return self.results[0].name if self.results else ''

  @property
  def kernel(self) -> Tensor | None:
    """The kernel, None for ops without one."""
    return self.operands[1] if self.name in _KERNEL_OPS else None

  @property
  def kernel_dtype(self) -> str:
    """Type of the kernel, '' for ops without one."""
    return self.kernel.dtype if self.kernel else ''

  @property
  def kernel_height(self) -> int:
    """Height of the kernel in pixels, 0 for ops without one."""
    return self._kernel_size(_HEIGHT)

  @property
  def kernel_width(self) -> int:
    """Width of the kernel in pixels, 0 for ops without one."""
    return self._kernel_size(_WIDTH)

  def _kernel_size(self, axis: int) -> int:
    four = self.kernel is not None and len(self.kernel.shape) == 4
    return self.kernel.shape[axis] if four else 0

  @property
  def per_channel(self) -> bool:
    """Whether the kernel has a scale for every output channel."""
    return self.kernel is not None and self.kernel.num_scales > 1

  @property
  def operand_dtype(self) -> str:
    """Type of the first operand, '' for ops without one."""
    first = self.operands[0] if self.operands else None
    return first.dtype if first else ''

  @property
  def result_dtype(self) -> str:
    """Type of the first result, '' for ops without one."""
    return self.results[0].dtype if self.results else ''

  @property
  def dtypes(self) -> tuple[str, str]:
    """Types of the first operand and of the first result."""
    return self.operand_dtype, self.result_dtype

  @property
  def rank(self) -> int:
    """Largest number of dimensions of operands and results."""
    return max((len(t.shape) for t in self._tensors), default=0)

  @property
  def batch(self) -> int:
    """Images at a time; 1 for what has one dimension or decodes weights."""
    shape = self.results[0].shape if self.results else ()
    first = self.operands[0] if self.operands else None
    weights = first is not None and first.constant
    return shape[0] if len(shape) > 1 and not weights else 1

  @property
  def stride(self) -> int:
    """Larger one of the two strides, 1 for ops without one."""
    return self._largest('strideH', 'strideW')

  @property
  def dilation(self) -> int:
    """Larger one of the two dilations, 1 for ops without one."""
    return self._largest('dilationHFactor', 'dilationWFactor')

  @property
  def activation(self) -> bool:
    """Whether an activation function is fused into it."""
    return bool(self.options.get('fusedActivationFunction', 0))

  @property
  def result_size(self) -> int:
    """Larger side of the first result in pixels, 0 if it is no image."""
    shape = self.results[0].shape if self.results else ()
    return max(shape[_HEIGHT:_WIDTH + 1]) if len(shape) == 4 else 0

  @property
  def enlargement(self) -> int:
    """Height of the result as a multiple of the operand's, rounded up."""
    shapes = [t.shape for t in (*self.operands[:1], *self.results[:1])
              if t is not None and len(t.shape) == 4]
    if len(shapes) < 2:
      return 1
    return -(-shapes[1][_HEIGHT] // max(1, shapes[0][_HEIGHT]))

  @property
  def _tensors(self) -> list[Tensor]:
    return [t for t in (*self.operands, *self.results) if t is not None]

  def _largest(self, *names: str) -> int:
    return max(int(self.options.get(name) or 1) for name in names)


@dataclasses.dataclass(frozen=True)
class ModelFile:
  """A `.tflite` file.

  Attributes:
    path: Its path.
    ops: The ops of all its graphs, in their order.
    inputs: Inputs of the first graph.
    outputs: Outputs of the first graph.
    signatures: Names of `inputs` and `outputs` by signature.
  """
  path: str
  ops: tuple[Op, ...]
  inputs: tuple[Tensor, ...]
  outputs: tuple[Tensor, ...]
  signatures: Mapping[str, Mapping[str, Sequence[str]]] = (
      dataclasses.field(default_factory=dict))

  def count(self) -> dict[str, int]:
    """Returns the number of ops by name."""
    return dict(collections.Counter(op.name for op in self.ops))


def read(path: str) -> ModelFile:
  """Reads a file.

  Args:
    path: The file.

  Raises:
    UsageError: If there is no such file, or it is not a TFLite model.
  """
  with damage_told(path):
    model = unpacked(path)
    codes = [_op_name(code) for code in model.operatorCodes]
    graphs = [_tensors(model, graph) for graph in model.subgraphs]
    ops = [_op(op, codes, tensors)
           for graph, tensors in zip(model.subgraphs, graphs)
           for op in _listed(graph.operators)]
    first = model.subgraphs[0]
    return ModelFile(
        path, tuple(ops), *(tuple(graphs[0][index] for index in _listed(listed))
                            for listed in (first.inputs, first.outputs)),
        _signatures(model))


def unpacked(path: str) -> schema.ModelT:
  """Returns the tables of a file, of which any may be damaged.

  Raises:
    UsageError: If there is no such file, or it is not a TFLite model.
  """
  if not files.is_file(path):
    raise errors.UsageError(f'tflite: there is no file {path!r}')
  content = files.read_bytes(path, MAX_BYTES + 1)
  if len(content) > MAX_BYTES:
    raise errors.UsageError(
        f'tflite: {path!r} has more than {MAX_BYTES:,} bytes')
  if len(content) < 8 or not schema.Model.ModelBufferHasIdentifier(content, 0):
    raise errors.UsageError(f'tflite: {path!r} is not a TFLite model')
  with damage_told(path):
    return schema.ModelT.InitFromPackedBuf(content)


@contextlib.contextmanager
def damage_told(path: str) -> Iterator[None]:
  """Raises `UsageError` for what reading damaged tables raises."""
  try:
    yield
  except errors.UsageError:
    raise
  except (struct.error, LookupError, TypeError, ValueError, AttributeError,
          ArithmeticError, MemoryError, AssertionError, StopIteration) as e:
    raise errors.UsageError(
        f'tflite: {path!r} is damaged ({type(e).__name__}: {e})') from None


def _signatures(model: schema.ModelT) -> dict[str, dict[str, list[str]]]:
  return {
      definition.signatureKey.decode(): {
          what: [entry.name.decode() for entry in _listed(
              getattr(definition, what))] for what in ('inputs', 'outputs')}
      for definition in _listed(model.signatureDefs)}


def _listed(values: Any) -> Sequence[Any]:
  return () if values is None else values


def _op_name(code: schema.OperatorCodeT) -> tuple[str, bool]:
  """Returns the name of an operator code, and whether it is a custom one."""
  name = _OP_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
  if name == 'CUSTOM':
    return (code.customCode or b'').decode(), True
  return name, False


def _tensors(model: schema.ModelT, graph: Any) -> list[Tensor]:
  found = []
  for tensor in graph.tensors:
    shape = tuple(int(size) for size in _listed(tensor.shape))
    scales = _quantization(tensor, 'scale')
    zero_points = _quantization(tensor, 'zeroPoint')
    data = model.buffers[tensor.buffer].data
    found.append(Tensor(
        (tensor.name or b'').decode(), _DTYPES[tensor.type], shape,
        any(size < 0 for size in (*_listed(tensor.shapeSignature), *shape)),
        len(scales), data is not None and len(data) > 0,
        float(scales[0]) if len(scales) == 1 else None,
        int(zero_points[0]) if len(zero_points) == 1 else 0,
        _zeros(tensor, shape, data), _short_values(tensor, data)))
  return found


def _zeros(tensor: schema.TensorT, shape: tuple[int, ...], data: Any) -> int:
  """Returns the number of zeros of a float constant, however it is stored."""
  if data is None or not len(data) or tensor.type not in _FLOATS:
    return 0
  return math.prod(shape) - int(
      np.count_nonzero(_values(data, _FLOATS[tensor.type])))


def _short_values(tensor: schema.TensorT, data: Any) -> tuple[int, ...]:
  if data is None or tensor.type != schema.TensorType.INT32 or (
      len(data) > _SHORT * np.dtype(np.int32).itemsize):
    return ()
  return tuple(map(int, _values(data, np.int32)))


def _values(data: Any, dtype: type) -> np.ndarray:
  return np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype)


def _quantization(tensor: schema.TensorT, name: str) -> Sequence[Any]:
  """Returns scales or zero points of a tensor."""
  return _listed(getattr(tensor.quantization, name, None))


def _op(op: Any, codes, tensors: Sequence[Tensor]) -> Op:
  name, custom = codes[op.opcodeIndex]
  return Op(
      name, custom,
      tuple(tensors[i] if i >= 0 else None for i in _listed(op.inputs)),
      tuple(tensors[i] for i in _listed(op.outputs)),
      dict(vars(op.builtinOptions)) if op.builtinOptions is not None else {})
