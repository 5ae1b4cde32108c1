"""A `.tflite` file as objects, and back."""

from collections.abc import Callable

import flatbuffers
from flatbuffers import number_types
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

Model = schema.ModelT
Pass = Callable[[Model], None]

_IDENTIFIER = b'TFL3'
# `force_align` of a buffer's data in TFLite's schema.fbs.
_ALIGNMENT = 16
# `deprecated_builtin_code` is a byte; this stands for larger codes.
_LAST_DEPRECATED_CODE = 127


def edit(content: bytes, *passes: Pass) -> bytes:
  """Returns a file after some passes.

  Args:
    content: A `.tflite` file; what is appended to its flatbuffer is dropped.
    *passes: Each changes the model in place.
  """
  model = Model.InitFromPackedBuf(content)
  for change in passes:
    change(model)
  model.buffers = [_aligned(buffer) for buffer in model.buffers]
  # The builder doubles its memory (and copies) until the file fits.
  builder = flatbuffers.Builder(len(content) + (1 << 16))
  builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
  return bytes(builder.Output())


def add_buffer(model: Model, data: bytes) -> int:
  """Appends a buffer to a model; returns its index."""
  buffer = schema.BufferT()
  buffer.data = np.frombuffer(data, np.uint8)
  model.buffers.append(buffer)
  return len(model.buffers) - 1


def add_tensor(graph: schema.SubGraphT, tensor: schema.TensorT) -> int:
  """Appends a tensor to a graph; returns its index."""
  graph.tensors.append(tensor)
  return len(graph.tensors) - 1


def op_code(model: Model, operator: int, version: int = 1) -> int:
  """Returns the index of an operator's code, which is added if need be.

  Args:
    model: The model.
    operator: A `BuiltinOperator` of the TFLite schema.
    version: Smallest version of the operator that will do.
  """
  for index, found in enumerate(op_codes(model)):
    if found == operator and model.operatorCodes[index].version >= version:
      return index
  code = schema.OperatorCodeT()
  code.builtinCode = operator
  code.deprecatedBuiltinCode = min(operator, _LAST_DEPRECATED_CODE)
  code.version = version
  model.operatorCodes.append(code)
  return len(model.operatorCodes) - 1


def make_fully_connected(op: schema.OperatorT, code: int) -> None:
  """Makes a convolution a FULLY_CONNECTED that keeps its dimensions.

  Args:
    op: Changed in place; its kernel has to be one of two dimensions.
    code: Index of the operator's code, see `op_code`.
  """
  options = schema.FullyConnectedOptionsT()
  options.fusedActivationFunction = op.builtinOptions.fusedActivationFunction
  options.keepNumDims = True
  op.opcodeIndex = code
  op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
  op.builtinOptions = options


def op_codes(model: Model) -> list[int]:
  """Returns the `BuiltinOperator` of every operator code of a model."""
  return [max(code.builtinCode, code.deprecatedBuiltinCode)
          for code in model.operatorCodes]


def drop_unused_tensors(model: Model) -> None:
  """Removes the tensors that no operator reads or writes any more.

  Args:
    model: Changed in place; it has no signature yet.

  Raises:
    ValueError: If it has one.
  """
  if model.signatureDefs:
    raise ValueError('signatures hold indices of tensors; drop before.')
  for graph in model.subgraphs:
    lists = [(graph, 'inputs'), (graph, 'outputs')] + [
        (op, name) for op in graph.operators
        for name in ('inputs', 'outputs', 'intermediates')]
    lists = [(owner, name) for owner, name in lists
             if getattr(owner, name) is not None]
    used = sorted({int(index) for owner, name in lists
                   for index in getattr(owner, name) if index >= 0})
    moved = {old: new for new, old in enumerate(used)}
    graph.tensors = [graph.tensors[index] for index in used]
    for owner, name in lists:
      setattr(owner, name, np.array(
          [moved.get(int(index), -1) for index in getattr(owner, name)],
          np.int32))


def drop_unread(model: Model, operator: int) -> None:
  """Removes the operators of a kind whose results nobody reads.

  Args:
    model: Changed in place; it has no signature yet.
    operator: A `BuiltinOperator` of the TFLite schema.
  """
  codes = op_codes(model)
  for graph in model.subgraphs:
    read = {int(index) for op in graph.operators for index in op.inputs}
    read |= {int(index) for index in graph.outputs}
    graph.operators = [
        op for op in graph.operators if codes[op.opcodeIndex] != operator or
        any(int(index) in read for index in op.outputs)]
  drop_unused_tensors(model)


class _AlignedBuffer(schema.BufferT):
  """A buffer whose data are aligned as the schema demands.

  The generated Python code ignores that, and kernels of some processors
  cannot read what is not aligned.
  """

  def Pack(self, builder):  # pylint: disable=invalid-name
    payload = np.asarray(self.data, np.uint8).tobytes()
    builder.StartVector(number_types.Uint8Flags.bytewidth, len(payload),
                        _ALIGNMENT)
    builder.head -= len(payload)
    builder.Bytes[builder.head:builder.head + len(payload)] = payload
    data = builder.EndVector()
    schema.BufferStart(builder)
    schema.BufferAddData(builder, data)
    return schema.BufferEnd(builder)


def _aligned(buffer: schema.BufferT) -> schema.BufferT:
  """Returns a buffer that is written aligned; one without data as it is."""
  if buffer.data is None:
    return buffer
  aligned = _AlignedBuffer()
  aligned.data = buffer.data
  return aligned
