"""What follows the mean over space, so that the mean ends the sparse part.

XNNPACK ends the part of a network that it computes sparsely with the mean over
space. If the mean keeps four dimensions, it takes what follows for more of that
part, and the file does not load on Arm ("failed to reshape runtime"). A CONV_2D
there does the same; FULLY_CONNECTED computes as much.
"""

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from modelgarden_opt.export.lowering import flatbuffer

_CONV = schema.BuiltinOperator.CONV_2D
_DENSE = schema.BuiltinOperator.FULLY_CONNECTED
_MEANS = (schema.BuiltinOperator.MEAN, schema.BuiltinOperator.SUM)
_DECODING = (schema.BuiltinOperator.DEQUANTIZE, schema.BuiltinOperator.DENSIFY)


def lower(model: flatbuffer.Model) -> None:
  """Writes 1x1 convolutions of one pixel as FULLY_CONNECTED.

  The kernel keeps its values; its shape [out, 1, 1, in] becomes [out, in]. The
  mean over space before them drops the dimensions of space, and a RESHAPE adds
  them again. Means and convolutions of squeeze and excitation stay: what they
  compute is joined with an image again.

  Args:
    model: Changed in place.
  """
  codes = flatbuffer.op_codes(model)
  for graph in model.subgraphs:
    joined = _reaching_images(graph)
    heads = [(op, _kernel_tensors(graph, codes, op)) for op in graph.operators
             if codes[op.opcodeIndex] == _CONV and _fits(graph, op)
             and int(op.outputs[0]) not in joined]
    for op, kernels in heads:
      for index in kernels:
        _flatten(graph.tensors[index])
      if kernels:
        flatbuffer.make_fully_connected(
            op, flatbuffer.op_code(model, _DENSE))
    graph.operators = [
        made for op in graph.operators for made in (
            _reshaped(model, graph, op)
            if op.opcodeIndex < len(codes) and codes[op.opcodeIndex] in _MEANS
            and int(op.outputs[0]) not in joined and _ends_space(graph, op)
            else (op,))]


def _is_image(graph, index: int) -> bool:
  shape = graph.tensors[index].shape
  return shape is not None and len(shape) == 4 and shape[1] * shape[2] > 1


def _reaching_images(graph) -> set[int]:
  """Returns the tensors on which an image of more than one pixel depends."""
  found: set[int] = set()
  for op in reversed(graph.operators):
    if any(int(index) in found or _is_image(graph, int(index))
           for index in op.outputs):
      found |= {int(index) for index in op.inputs if index >= 0}
  return found


def _ends_space(graph, op: schema.OperatorT) -> bool:
  """Whether a mean makes one pixel of four dimensions of an image."""
  return _is_image(graph, int(op.inputs[0])) and (
      op.builtinOptions.keepDims and
      tuple(graph.tensors[op.outputs[0]].shape[1:3]) == (1, 1))


def _reshaped(
    model, graph, op: schema.OperatorT
) -> tuple[schema.OperatorT, schema.OperatorT]:
  """Returns a mean without the dimensions of space, and what adds them."""
  pixel = graph.tensors[op.outputs[0]]
  mean = schema.TensorT()
  mean.name, mean.type = pixel.name + b'/mean', pixel.type
  mean.shape = [int(pixel.shape[axis]) for axis in (0, 3)]
  if pixel.shapeSignature is not None:
    mean.shapeSignature = [int(pixel.shapeSignature[axis]) for axis in (0, 3)]
  shape = [-1, *(int(size) for size in pixel.shape[1:])]
  wanted = schema.TensorT()
  wanted.name, wanted.type = pixel.name + b'/shape', schema.TensorType.INT32
  wanted.shape = [len(shape)]
  wanted.buffer = flatbuffer.add_buffer(
      model, np.array(shape, np.int32).tobytes())
  reshape = schema.OperatorT()
  reshape.opcodeIndex = flatbuffer.op_code(
      model, schema.BuiltinOperator.RESHAPE)
  reshape.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
  reshape.builtinOptions = schema.ReshapeOptionsT()
  reshape.builtinOptions.newShape = shape
  reshape.outputs = [int(op.outputs[0])]
  op.builtinOptions.keepDims = False
  op.outputs = [flatbuffer.add_tensor(graph, mean)]
  reshape.inputs = [op.outputs[0], flatbuffer.add_tensor(graph, wanted)]
  return op, reshape


def _fits(graph, op: schema.OperatorT) -> bool:
  """Whether a convolution is a matrix product of one pixel."""
  kernel = graph.tensors[op.inputs[1]].shape
  pixel = graph.tensors[op.inputs[0]].shape
  return tuple(kernel[1:3]) == (1, 1) == tuple(pixel[1:3]) and (
      pixel[3] == kernel[3])


def _kernel_tensors(graph, codes, op: schema.OperatorT) -> list[int]:
  """Returns a kernel and what it is decoded from; none if others read it."""
  producers = {int(o.outputs[0]): o for o in graph.operators
               if codes[o.opcodeIndex] in _DECODING}
  found = [int(op.inputs[1])]
  while found[-1] in producers:
    found.append(int(producers[found[-1]].inputs[0]))
  readers = [sum(index in o.inputs for o in graph.operators) for index in found]
  return found if readers == [1] * len(found) else []


def _flatten(kernel: schema.TensorT) -> None:
  """Gives a kernel [out, 1, 1, in] the shape [out, in]."""
  kernel.shape = [int(kernel.shape[axis]) for axis in (0, 3)]
  kernel.shapeSignature = None
  if kernel.sparsity is not None:
    _flatten_sparsity(kernel.sparsity)


def _flatten_sparsity(sparsity: schema.SparsityParametersT) -> None:
  """Leaves out the dimensions of one pixel: no index depends on them.

  Numbers above those of the dimensions are those of blocks.
  """
  moved = {axis: axis - 2 for axis in range(3, 8)} | {0: 0}
  levels = [(int(axis), level) for axis, level in zip(
      sparsity.traversalOrder, sparsity.dimMetadata) if axis in moved]
  sparsity.dimMetadata = [level for _, level in levels]
  sparsity.traversalOrder = [moved[axis] for axis, _ in levels]
  if sparsity.blockMap is not None:
    sparsity.blockMap = [moved[int(axis)] for axis in sparsity.blockMap]
