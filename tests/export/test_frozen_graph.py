"""The frozen graph computes what the traced function computes."""

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt.export import frozen_graph
from tests import conftest

X = conftest.random_images([2, 3])


def _run(graph_def, function):
  with tf.Graph().as_default() as graph:
    tf.import_graph_def(graph_def, name='')
    with tf.compat.v1.Session(graph=graph) as session:
      return session.run(
          function.outputs[0].name, {function.inputs[0].name: X.numpy()})


@pytest.mark.parametrize('nested', [False, True])
def test_variables_and_captured_tensors_become_constants(nested):
  weight = tf.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
  captured = tf.constant(np.arange(2.0, dtype=np.float32))

  def compute(x):
    return tf.nn.relu(x @ weight + captured) * weight[0]

  inner = tf.function(compute)
  function = tf.function(
      lambda x: inner(x) if nested else compute(x), autograph=False,
  ).get_concrete_function(tf.TensorSpec([2, 3]))
  graph_def = frozen_graph.freeze(function)
  assert not {node.op for node in graph_def.node} & {
      'ReadVariableOp', 'VarHandleOp'}
  assert sum(node.op == 'Placeholder' for node in graph_def.node) == 1
  np.testing.assert_allclose(
      _run(graph_def, function), compute(X), rtol=1e-6)


def test_what_is_no_read_of_a_variable_is_told():
  count = tf.Variable(1.0)
  function = tf.function(
      lambda x: x * count.assign_add(1.0)).get_concrete_function(
          tf.TensorSpec([2, 3]))
  with pytest.raises(ValueError, match='cannot be written as a constant'):
    frozen_graph.freeze(function)
