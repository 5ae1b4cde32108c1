"""SAME padding that is symmetric, written as an op of its own.

XNNPACK computes sparsely where a convolution of stride 2 has explicit padding
of half its kernel on every side, and never with SAME, also where both are the
same: at odd sizes. The converter makes SAME even of explicit padding there.
"""

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from modelgarden_opt.export.lowering import flatbuffer

_CONVOLUTIONS = (schema.BuiltinOperator.CONV_2D,
                 schema.BuiltinOperator.DEPTHWISE_CONV_2D)
_AXES = (1, 2)  # Height and width of an image.


def split(model: flatbuffer.Model) -> None:
  """Writes strided convolutions with symmetric SAME as PAD and VALID.

  The file computes the same, bit for bit. Convolutions of stride 1, of several
  strides, of dilated or even kernels, and those whose SAME is not symmetric,
  stay.

  Args:
    model: Changed in place.
  """
  codes = flatbuffer.op_codes(model)
  for graph in model.subgraphs:
    operators, constants = [], {}
    for op in graph.operators:
      if codes[op.opcodeIndex] in _CONVOLUTIONS and _is_symmetric(graph, op):
        kernel = graph.tensors[op.inputs[1]].shape
        pads = tuple(int(kernel[axis]) // 2 for axis in _AXES)
        if pads not in constants:
          constants[pads] = _constant(model, graph, pads)
        operators.append(_padding(model, graph, op, pads, constants[pads]))
        op.builtinOptions.padding = schema.Padding.VALID
      operators.append(op)
    graph.operators = operators


def _is_symmetric(graph, op: schema.OperatorT) -> bool:
  """Whether SAME pads half the kernel of a strided op on every side."""
  options = op.builtinOptions
  if options.padding != schema.Padding.SAME or (
      options.strideH != options.strideW or options.strideH == 1 or
      max(options.dilationHFactor, options.dilationWFactor) > 1):
    return False
  image, kernel = (graph.tensors[index].shape for index in op.inputs[:2])
  return max(kernel[axis] for axis in _AXES) > 1 and all(
      kernel[axis] % 2 and kernel[axis] - 1 == _padded_by_same(
          int(image[axis]), int(kernel[axis]), options.strideH)
      for axis in _AXES)


def _padded_by_same(size: int, kernel: int, stride: int) -> int:
  """Returns the pixels that SAME adds along an axis, on both sides together."""
  return max((-(-size // stride) - 1) * stride + kernel - size, 0)


def _constant(model, graph, pads: tuple[int, int]) -> int:
  """Appends the operand of PAD to a graph; returns its index."""
  values = np.zeros([4, 2], np.int32)
  for axis, pixels in zip(_AXES, pads):
    values[axis] = pixels
  tensor = schema.TensorT()
  tensor.name = 'paddings_{}_{}'.format(*pads).encode()
  tensor.type, tensor.shape = schema.TensorType.INT32, list(values.shape)
  tensor.buffer = flatbuffer.add_buffer(model, values.tobytes())
  return flatbuffer.add_tensor(graph, tensor)


def _padding(
    model, graph, op: schema.OperatorT, pads: tuple[int, int], constant: int
) -> schema.OperatorT:
  """Returns the PAD that the input of an op now passes."""
  image = graph.tensors[op.inputs[0]]
  padded = schema.TensorT()
  padded.name = graph.tensors[op.outputs[0]].name + b'/padded'
  padded.type, padded.quantization = image.type, image.quantization
  padded.shape = _enlarged(image.shape, pads)
  if image.shapeSignature is not None:
    padded.shapeSignature = _enlarged(image.shapeSignature, pads)
  pad = schema.OperatorT()
  pad.opcodeIndex = flatbuffer.op_code(model, schema.BuiltinOperator.PAD)
  pad.builtinOptionsType = schema.BuiltinOptions.PadOptions
  pad.builtinOptions = schema.PadOptionsT()
  pad.inputs = [int(op.inputs[0]), constant]
  pad.outputs = [flatbuffer.add_tensor(graph, padded)]
  op.inputs = [pad.outputs[0], *map(int, op.inputs[1:])]
  return pad


def _enlarged(shape, pads: tuple[int, int]) -> list[int]:
  enlarged = [int(size) for size in shape]
  for axis, pixels in zip(_AXES, pads):
    enlarged[axis] += 2 * pixels
  return enlarged
