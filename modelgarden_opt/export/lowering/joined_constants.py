"""Constants of sums and products with as many dimensions as sparsity allows.

XNNPACK computes an ADD or MUL sparsely if both operands have four dimensions.
The converter leaves the constants of hard-swish and hard-sigmoid scalars. A
constant of several values with four dimensions is dangerous: XNNPACK stores the
image by channels then, not the constant, and adds the wrong values.
"""

import math

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from modelgarden_opt.export.lowering import flatbuffer

_JOINS = (schema.BuiltinOperator.ADD, schema.BuiltinOperator.MUL)
_DEQUANTIZE = schema.BuiltinOperator.DEQUANTIZE
_DTYPES = {schema.TensorType.FLOAT32: np.float32,
           schema.TensorType.FLOAT16: np.float16}
_RANK = 4


def adapt(model: flatbuffer.Model) -> None:
  """Gives single numbers that are joined with images four dimensions.

  Constants of several values get three at most, by which no result changes:
  those of one image have its first dimension left out. Others who read a
  constant keep the one that they have. What is stored in float16 becomes
  float32, in which it is used.

  Args:
    model: Changed in place; it has no signature yet.
  """
  codes = flatbuffer.op_codes(model)
  for graph in model.subgraphs:
    decoded = {int(op.outputs[0]): int(op.inputs[0]) for op in graph.operators
               if codes[op.opcodeIndex] == _DEQUANTIZE}
    made: dict[int, int] = {}
    for op in graph.operators:
      if codes[op.opcodeIndex] not in _JOINS or (
          len(_shape(graph.tensors[op.outputs[0]])) != _RANK):
        continue
      for index in map(int, op.inputs):
        tensor = graph.tensors[index]
        shape = _wanted_shape(_shape(tensor))
        if index in made or shape == _shape(tensor):
          continue
        values = _values(model, graph.tensors[decoded.get(index, index)])
        if values is not None:
          made[index] = _constant(model, graph, tensor.name, shape, values)
      op.inputs = [made.get(int(index), int(index)) for index in op.inputs]
  flatbuffer.drop_unread(model, _DEQUANTIZE)


def _shape(tensor: schema.TensorT) -> list[int]:
  return [] if tensor.shape is None else [int(size) for size in tensor.shape]


def _wanted_shape(shape: list[int]) -> list[int]:
  """Returns the shape that a constant of some shape is to have."""
  if math.prod(shape) == 1:
    return [1] * _RANK
  return shape[1:] if len(shape) == _RANK and shape[0] == 1 else shape


def _values(model, tensor: schema.TensorT) -> np.ndarray | None:
  """Returns the values of a float constant, None of anything else."""
  data = model.buffers[tensor.buffer].data
  if data is None or tensor.type not in _DTYPES or tensor.sparsity is not None:
    return None
  return np.frombuffer(
      np.asarray(data, np.uint8).tobytes(), _DTYPES[tensor.type])


def _constant(
    model, graph, name: bytes, shape: list[int], values: np.ndarray) -> int:
  """Appends a constant to a graph; returns its index."""
  tensor = schema.TensorT()
  tensor.name, tensor.type = name, schema.TensorType.FLOAT32
  tensor.shape = shape
  tensor.buffer = flatbuffer.add_buffer(
      model, values.astype(np.float32).tobytes())
  return flatbuffer.add_tensor(graph, tensor)
