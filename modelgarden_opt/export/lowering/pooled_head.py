"""Convolutions of what has been pooled to one pixel, as dense layers.

XNNPACK ends its sparse part of a network with the mean over space. A CONV_2D
after it, in a file whose rest is sparse, does not load on Arm ("failed to
reshape runtime"); FULLY_CONNECTED, which computes the same, does.
"""

from tensorflow.lite.python import schema_py_generated as schema

from modelgarden_opt.export.lowering import flatbuffer

_CONV = schema.BuiltinOperator.CONV_2D
_DENSE = schema.BuiltinOperator.FULLY_CONNECTED
_DECODING = (schema.BuiltinOperator.DEQUANTIZE, schema.BuiltinOperator.DENSIFY)


def lower(model: flatbuffer.Model) -> None:
  """Writes 1x1 convolutions of one pixel as FULLY_CONNECTED.

  Those of squeeze and excitation stay: what they compute is joined with an
  image again. The kernel keeps its values; its shape [out, 1, 1, in] becomes
  [out, in].

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
        _rewrite(op, flatbuffer.op_code(model, _DENSE))


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


def _rewrite(op: schema.OperatorT, code: int) -> None:
  options = schema.FullyConnectedOptionsT()
  options.fusedActivationFunction = op.builtinOptions.fusedActivationFunction
  options.keepNumDims = True
  op.opcodeIndex = code
  op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
  op.builtinOptions = options
