"""Pointwise convolutions of 4-bit kernels as XNNPACK runs them.

XNNPACK has kernels of 4 bits for FULLY_CONNECTED only; a CONV_2D with such a
kernel leaves the delegate, and its kernel is unpacked at every inference. A
convolution of 1x1 pixels is a matrix product for every pixel, which is what
FULLY_CONNECTED with `keep_num_dims` computes.
"""

import collections

from tensorflow.lite.python import schema_py_generated as schema

from modelgarden_opt.export.lowering import flatbuffer

_CONV = schema.BuiltinOperator.CONV_2D
_DENSE = schema.BuiltinOperator.FULLY_CONNECTED
# Of FULLY_CONNECTED with scales per channel; see `op_version.cc` of TFLite.
_VERSION = 12


def lower(model: flatbuffer.Model) -> None:
  """Writes pointwise convolutions of 4-bit kernels as FULLY_CONNECTED.

  A kernel keeps its values and its scales; only its shape changes, from
  [out, 1, 1, in] to [out, in].

  Args:
    model: Changed in place.
  """
  codes = flatbuffer.op_codes(model)
  for graph in model.subgraphs:
    readers = collections.defaultdict(list)
    for op in graph.operators:
      for index in set(map(int, op.inputs)):
        readers[index].append(op)
    lowered = []
    for index, ops in readers.items():
      if index >= 0 and all(
          codes[op.opcodeIndex] == _CONV and _fits(graph, op, index)
          for op in ops):
        graph.tensors[index].shape = [
            int(graph.tensors[index].shape[axis]) for axis in (0, 3)]
        lowered += ops
    if lowered:
      code = flatbuffer.op_code(model, _DENSE, _VERSION)
      for op in lowered:
        flatbuffer.make_fully_connected(op, code)


def _fits(graph, op, index: int) -> bool:
  """Whether a tensor is the kernel of an op that can be written otherwise."""
  kernel, options = graph.tensors[index], op.builtinOptions
  return (int(op.inputs[1]) == index and
          kernel.type == schema.TensorType.INT4 and
          tuple(kernel.shape[1:3]) == (1, 1) and
          int(graph.tensors[op.inputs[0]].shape[-1]) == kernel.shape[3] and
          options.strideH == options.strideW == 1)
