"""A quantized model with 16-bit activations over its trained ranges.

TFLite's 16-bit activations are symmetric: a range that was trained from a to b
becomes -m to m with m the larger magnitude. That is finer than the 8-bit range
by a factor of 128 at least, so nothing that was trained is lost.
"""

from collections.abc import Iterator
import contextlib

import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
import tf_keras

from modelgarden_opt.compression.quantization import kernel_quantizer
from modelgarden_opt.compression.quantization import quantizers
from modelgarden_opt.export import frozen_graph
from modelgarden_opt.export.lowering import flatbuffer
from modelgarden_opt.modeling import calibration

# The grid has one step more below zero, which puts zero on it exactly.
_BELOW = 32768.0 / 32767.0
_RELU_OPS = (schema.BuiltinOperator.RELU, schema.BuiltinOperator.RELU6)
_FUSED = (schema.ActivationFunctionType.RELU,
          schema.ActivationFunctionType.RELU6)


def possible(model: tf_keras.Model) -> bool:
  """Whether a model has trained ranges, and kernels of 8 bits beside them."""
  found = calibration.quantizers_of(model)
  return bool(found) and all(
      quantizer.num_bits == 8 for quantizer in found
      if isinstance(quantizer, kernel_quantizer.KernelQuantizer))


@contextlib.contextmanager
def activations(model: tf_keras.Model) -> Iterator[None]:
  """Gives the activations of a quantized model 16 bits inside the context.

  Args:
    model: A quantized model; functions traced before are not affected.
  """
  found = [q for q in calibration.quantizers_of(model)
           if isinstance(q, quantizers.ActivationQuantizer)
           and q.maximum is not None]
  before = [(q.num_bits, q.minimum, q.maximum) for q in found]
  for quantizer in found:
    limit = max(-float(quantizer.minimum), float(quantizer.maximum))
    quantizer.num_bits = 16
    quantizer.minimum = tf.constant(-limit * _BELOW)
    quantizer.maximum = tf.constant(limit)
  try:
    yield
  finally:
    for quantizer, (bits, minimum, maximum) in zip(found, before):
      quantizer.num_bits = bits
      quantizer.minimum, quantizer.maximum = minimum, maximum


def problem(content: bytes, traced) -> str:
  """Returns what the converter left out of a 16-bit file, '' if nothing.

  It drops the ReLU after a convolution without a bias, as if every range
  began at zero. Those of 8 bits do; these reach as far below it as above.

  Args:
    content: The file.
    traced: The concrete function that it was converted from.
  """
  expected = sum(op.type in ('Relu', 'Relu6')
                 for op in frozen_graph.ops_needed(traced))
  model = flatbuffer.Model.InitFromPackedBuf(content)
  codes = flatbuffer.op_codes(model)
  found = sum(
      codes[op.opcodeIndex] in _RELU_OPS or
      getattr(op.builtinOptions, 'fusedActivationFunction', None) in _FUSED
      for graph in model.subgraphs for op in graph.operators)
  if found >= expected:
    return ''
  return f'the converter drops {expected - found} of {expected} ReLUs'
