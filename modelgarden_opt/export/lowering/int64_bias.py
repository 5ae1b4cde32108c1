"""Biases as 16-bit kernels read them."""

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from modelgarden_opt.export.lowering import flatbuffer

_OPS = frozenset({
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
})
_LARGEST = np.iinfo(np.int32).max


def widen(model: flatbuffer.Model) -> None:
  """Writes the biases of int16 activations as int64.

  From trained ranges the converter writes them as int32, which TFLite's
  kernels of int16 activations refuse; after calibration it writes int64.

  Args:
    model: Changed in place.

  Raises:
    OverflowError: If a bias did not fit int32 and has lost its value.
  """
  codes = flatbuffer.op_codes(model)
  for graph in model.subgraphs:
    for op in graph.operators:
      if codes[op.opcodeIndex] not in _OPS or len(op.inputs) < 3:
        continue
      activation, index = graph.tensors[op.inputs[0]], int(op.inputs[2])
      if activation.type != schema.TensorType.INT16 or index < 0:
        continue
      bias = graph.tensors[index]
      if bias.type == schema.TensorType.INT32:
        bias.buffer = flatbuffer.add_buffer(model, _widened(model, bias))
        bias.type = schema.TensorType.INT64


def _widened(model: flatbuffer.Model, bias: schema.TensorT) -> bytes:
  values = np.frombuffer(
      np.asarray(model.buffers[bias.buffer].data, np.uint8).tobytes(),
      np.int32).astype(np.int64)
  if np.any(np.abs(values) >= _LARGEST):
    raise OverflowError(f'{bias.name.decode()} does not fit 32 bits')
  return values.tobytes()
