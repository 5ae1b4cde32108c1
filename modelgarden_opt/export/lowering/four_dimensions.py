"""Constants of sums and products with as many dimensions as images have.

XNNPACK computes an ADD or MUL sparsely if both operands have four dimensions.
The converter leaves the constants of hard-swish and hard-sigmoid scalars.
"""

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from modelgarden_opt.export.lowering import flatbuffer

_JOINS = (schema.BuiltinOperator.ADD, schema.BuiltinOperator.MUL)
_DEQUANTIZE = schema.BuiltinOperator.DEQUANTIZE
_DTYPES = {schema.TensorType.FLOAT32: np.float32,
           schema.TensorType.FLOAT16: np.float16}
_RANK = 4


def expand(model: flatbuffer.Model) -> None:
  """Gives the float constants that are joined with images four dimensions.

  A scalar gets the shape [1, 1, 1, 1], a vector [1, 1, 1, c]. Those stored in
  float16 become float32, in which they are used. Others who read the constant
  keep the one that they have.

  Args:
    model: Changed in place; it has no signature yet.
  """
  codes = flatbuffer.op_codes(model)
  for graph in model.subgraphs:
    decoded = {int(op.outputs[0]): int(op.inputs[0]) for op in graph.operators
               if codes[op.opcodeIndex] == _DEQUANTIZE}
    made: dict[int, int] = {}
    for op in graph.operators:
      ranks = [_rank(graph.tensors[index]) for index in op.inputs if index >= 0]
      if codes[op.opcodeIndex] not in _JOINS or max(ranks) != _RANK:
        continue
      inputs = [int(index) for index in op.inputs]
      for index, rank in zip(inputs, ranks):
        if rank < _RANK and index not in made:
          values = _values(model, graph.tensors[decoded.get(index, index)])
          if values is not None:
            made[index] = _constant(model, graph.tensors[index], graph, values)
      op.inputs = [made.get(index, index) if rank < _RANK else index
                   for index, rank in zip(inputs, ranks)]
  flatbuffer.drop_unread(model, _DEQUANTIZE)


def _rank(tensor: schema.TensorT) -> int:
  return 0 if tensor.shape is None else len(tensor.shape)


def _values(model, tensor: schema.TensorT) -> np.ndarray | None:
  """Returns the values of a float constant, None of anything else."""
  data = model.buffers[tensor.buffer].data
  if data is None or tensor.type not in _DTYPES or tensor.sparsity is not None:
    return None
  return np.frombuffer(
      np.asarray(data, np.uint8).tobytes(), _DTYPES[tensor.type])


def _constant(model, like: schema.TensorT, graph, values: np.ndarray) -> int:
  """Appends a constant of four dimensions to a graph; returns its index."""
  shape = [] if like.shape is None else [int(size) for size in like.shape]
  tensor = schema.TensorT()
  tensor.name, tensor.type = like.name, schema.TensorType.FLOAT32
  tensor.shape = [1] * (_RANK - len(shape)) + shape
  tensor.buffer = flatbuffer.add_buffer(
      model, values.astype(np.float32).tobytes())
  return flatbuffer.add_tensor(graph, tensor)
