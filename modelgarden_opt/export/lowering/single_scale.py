"""Kernels of one scale as runtimes without scales by channel read them.

The converter folds a batch normalization into a kernel's scales by channel
only, so a kernel always has as many scales as channels, also where all of them
are equal: because its normalizations were folded before (see
`modeling.equalization`), or because there is none.
"""

from collections.abc import Sequence

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from modelgarden_opt.export.lowering import flatbuffer

_OPS = frozenset({
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
})
_TYPES = frozenset({schema.TensorType.INT8, schema.TensorType.INT4})
# Largest relative difference of scales that count as equal. One float32
# rounding is 6e-8, and a weight of 127 steps moves by 0.001 steps.
_EQUAL = 1e-5


def merge(model: flatbuffer.Model) -> None:
  """Writes equal scales of the channels of an integer kernel as one scale.

  The kernel keeps its integers, and so does the bias, whose scales are those
  of the kernel times that of the input.

  Args:
    model: Changed in place.
  """
  codes = flatbuffer.op_codes(model)
  for graph in model.subgraphs:
    for op in graph.operators:
      if codes[op.opcodeIndex] not in _OPS:
        continue
      constants = [graph.tensors[index] for index in op.inputs[1:]
                   if index >= 0]
      if constants[0].type in _TYPES:
        _keep_one_scale(constants)


def _keep_one_scale(constants: Sequence[schema.TensorT]) -> None:
  """Gives a kernel and its bias one scale, if the kernel's are equal."""
  for tensor in constants:
    scales = tensor.quantization.scale
    if np.ptp(scales) > _EQUAL * np.max(scales):
      return
    tensor.quantization.scale = scales[:1]
    tensor.quantization.zeroPoint = tensor.quantization.zeroPoint[:1]
    tensor.quantization.quantizedDimension = 0
