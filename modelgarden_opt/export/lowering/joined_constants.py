"""Numbers that are added to images or multiply them, with four dimensions.

XNNPACK computes an ADD or MUL sparsely if both operands have four dimensions.
The converter leaves the constants of hard-swish and hard-sigmoid scalars.
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


def expand(model: flatbuffer.Model) -> None:
  """Gives single numbers that are joined with images four dimensions.

  Constants of several values stay: of them XNNPACK takes the wrong ones
  (`evaluation.sparse_rules`). Others who read a number keep it as it is. What
  is stored in float16 becomes float32, in which it is used.

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
        if index in made or len(_shape(tensor)) == _RANK or (
            math.prod(_shape(tensor)) != 1):
          continue
        values = _values(model, graph.tensors[decoded.get(index, index)])
        if values is not None:
          made[index] = _number(model, graph, tensor.name, values)
      op.inputs = [made.get(int(index), int(index)) for index in op.inputs]
  flatbuffer.drop_unread(model, _DEQUANTIZE)


def _shape(tensor: schema.TensorT) -> list[int]:
  return [] if tensor.shape is None else [int(size) for size in tensor.shape]


def _values(model, tensor: schema.TensorT) -> np.ndarray | None:
  """Returns the values of a float constant, None of anything else."""
  data = model.buffers[tensor.buffer].data
  if data is None or tensor.type not in _DTYPES or tensor.sparsity is not None:
    return None
  return np.frombuffer(
      np.asarray(data, np.uint8).tobytes(), _DTYPES[tensor.type])


def _number(model, graph, name: bytes, value: np.ndarray) -> int:
  """Appends a constant of one value to a graph; returns its index."""
  tensor = schema.TensorT()
  tensor.name, tensor.type = name, schema.TensorType.FLOAT32
  tensor.shape = [1] * _RANK
  tensor.buffer = flatbuffer.add_buffer(
      model, value.astype(np.float32).tobytes())
  return flatbuffer.add_tensor(graph, tensor)
