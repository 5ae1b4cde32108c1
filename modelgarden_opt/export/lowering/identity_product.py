"""Products by a constant that change no integer.

hard-swish and hard-sigmoid multiply by 1/6. On integers that is nothing: the
grid of [0, 6] and that of [0, 1] have the same integers. So a file can leave
the op out, if every op that reads the result takes a value 6 times as large
for it: a kernel that divides its scale by 6 keeps its integers too.
"""

import dataclasses

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from modelgarden_opt.export.lowering import flatbuffer

_OPERATOR = schema.BuiltinOperator
_MUL = _OPERATOR.MUL
# Divide the scale of their kernel, and keep that of their result.
_WITH_KERNEL = frozenset({
    _OPERATOR.CONV_2D, _OPERATOR.DEPTHWISE_CONV_2D,
    _OPERATOR.FULLY_CONNECTED})
# Hand the factor on, whatever it is.
_LINEAR = frozenset({
    _OPERATOR.MEAN, _OPERATOR.AVERAGE_POOL_2D, _OPERATOR.MAX_POOL_2D,
    _OPERATOR.RESHAPE, _OPERATOR.SQUEEZE})
# Largest relative difference of a step from that of the same integers: 255
# steps then differ by 0.003 of one.
_SAME = 1e-5


@dataclasses.dataclass
class _Rescaling:
  """What a factor changes.

  Attributes:
    larger: Indices of tensors whose values, and so whose step, it multiplies.
    smaller: Indices of kernels whose step it divides.
  """
  larger: list[int]
  smaller: list[int]


def remove(model: flatbuffer.Model) -> None:
  """Removes the products that change no integer, where all readers allow it.

  Args:
    model: Changed in place.
  """
  codes = flatbuffer.op_codes(model)
  for graph in model.subgraphs:
    for op in list(graph.operators):
      factor = _factor(model, graph, codes, op)
      if factor is None:
        continue
      source, target = int(op.inputs[0]), int(op.outputs[0])
      found = _followed(graph, codes, target)
      if found is None:
        continue
      for index in found.larger:
        _scale(graph.tensors[index], factor)
      for index in found.smaller:
        _scale(graph.tensors[index], 1.0 / factor)
      graph.operators.remove(op)
      for reader in _readers(graph, target):
        reader.inputs = np.where(
            np.asarray(reader.inputs) == target, source, reader.inputs)
  flatbuffer.drop_unused_tensors(model)


def _factor(model, graph, codes, op) -> float | None:
  """Returns input / output of a product that keeps integers, else None."""
  if codes[op.opcodeIndex] != _MUL or op.builtinOptions is None or (
      op.builtinOptions.fusedActivationFunction):
    return None
  source, constant, target = (
      graph.tensors[index] for index in (*op.inputs, *op.outputs))
  if not (_has_one_scale(source) and _has_one_scale(constant) and
          _has_one_scale(target)) or source.type != target.type:
    return None
  data = model.buffers[constant.buffer].data
  if data is None or constant.type != schema.TensorType.INT8 or (
      len(data) != 1):
    return None
  value = constant.quantization.scale[0] * (
      float(np.asarray(data, np.uint8).view(np.int8)[0]) -
      float(constant.quantization.zeroPoint[0]))
  steps = source.quantization.scale[0] / target.quantization.scale[0]
  if source.quantization.zeroPoint[0] != target.quantization.zeroPoint[0] or (
      abs(value * steps - 1.0) > _SAME):
    return None
  return float(steps)


def _has_one_scale(tensor: schema.TensorT) -> bool:
  return tensor.quantization is not None and (
      tensor.quantization.scale is not None and
      len(tensor.quantization.scale) == 1)


def _followed(graph, codes, index: int) -> _Rescaling | None:
  """Follows a factor of a tensor to the kernels that can undo it.

  Args:
    graph: The subgraph.
    codes: Operators by index.
    index: Of the tensor.

  Returns:
    What changes, or None if something reads the tensor that a factor changes.
  """
  found, open_tensors = _Rescaling([], []), [index]
  while open_tensors:
    current = open_tensors.pop()
    readers = _readers(graph, current)
    if not readers or current in graph.outputs:
      return None
    for op in readers:
      kind, first = codes[op.opcodeIndex], int(op.inputs[0]) == current
      if kind in _WITH_KERNEL and first and _belongs_to_one(graph, op):
        found.smaller.append(int(op.inputs[1]))
      elif kind in _LINEAR and first or kind == _MUL and (
          not op.builtinOptions.fusedActivationFunction and
          list(op.inputs).count(current) == 1):
        # A product of two that both carry the factor would carry it twice.
        if int(op.outputs[0]) in found.larger:
          return None
        found.larger.append(int(op.outputs[0]))
        open_tensors.append(int(op.outputs[0]))
      else:
        return None
  return found


def _readers(graph, index: int) -> list[schema.OperatorT]:
  return [op for op in graph.operators if index in op.inputs]


def _belongs_to_one(graph, op: schema.OperatorT) -> bool:
  """Whether the kernel of an op is a constant that no other op reads."""
  kernel = int(op.inputs[1])
  return len(_readers(graph, kernel)) == 1 and not any(
      kernel in other.outputs for other in graph.operators) and (
          kernel not in graph.inputs)


def _scale(tensor: schema.TensorT, factor: float) -> None:
  quantization = tensor.quantization
  quantization.scale = (
      np.asarray(quantization.scale, np.float64) * factor).astype(np.float32)
