"""Files of 16-bit activations over trained ranges load and are right."""

import numpy as np
import pytest
from tensorflow.lite.python import schema_py_generated as schema

from modelgarden_opt.export.lowering import int64_bias


def _model(bias, activation=schema.TensorType.INT16):
  """Returns a model of one convolution."""
  model = schema.ModelT()
  code = schema.OperatorCodeT()
  code.builtinCode = schema.BuiltinOperator.CONV_2D
  model.operatorCodes = [code]
  model.buffers = [schema.BufferT(), schema.BufferT()]
  model.buffers[1].data = np.frombuffer(
      np.asarray(bias, np.int32).tobytes(), np.uint8)
  graph = schema.SubGraphT()
  graph.tensors = [schema.TensorT() for _ in range(3)]
  graph.tensors[0].type = activation
  graph.tensors[2].type = schema.TensorType.INT32
  graph.tensors[2].buffer, graph.tensors[2].name = 1, b'bias'
  op = schema.OperatorT()
  op.inputs = [0, 1, 2]
  graph.operators = [op]
  model.subgraphs = [graph]
  return model


def test_biases_become_int64_of_the_same_values():
  model = _model([1, -2, 2**30])
  int64_bias.widen(model)
  bias = model.subgraphs[0].tensors[2]
  assert bias.type == schema.TensorType.INT64
  np.testing.assert_array_equal(
      np.frombuffer(model.buffers[bias.buffer].data.tobytes(), np.int64),
      [1, -2, 2**30])


def test_biases_of_8_bit_activations_stay():
  model = _model([1, 2], schema.TensorType.INT8)
  int64_bias.widen(model)
  assert model.subgraphs[0].tensors[2].type == schema.TensorType.INT32


@pytest.mark.parametrize('value', [2**31 - 1, -2**31])
def test_a_bias_that_was_clipped_is_not_passed_on(value):
  with pytest.raises(OverflowError, match='bias does not fit 32 bits'):
    int64_bias.widen(_model([1, value]))
