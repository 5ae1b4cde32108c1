"""A traced function as a graph of constants, handed straight to the converter.

TensorFlow freezes by way of Grappler and a second function, and its converter
freezes once more what it is given: for 25 million weights that takes longer
than the conversion itself. The inference of a Keras model is one flat graph,
in which a variable is a captured handle and its reads; replacing the reads by
constants is all there is to do.
"""

import tensorflow as tf
from tensorflow.python.framework import convert_to_constants


def freeze(function) -> tf.compat.v1.GraphDef:
  """Returns the graph of a traced function with its variables as constants.

  Args:
    function: A concrete function that assigns no variable.
  """
  graph_def = function.graph.as_graph_def()
  # Calls or control flow: the reads lie inside of other functions.
  if graph_def.HasField('library'):
    frozen = convert_to_constants.convert_variables_to_constants_v2(function)
    return frozen.graph.as_graph_def()
  variables = {id(v.handle): v for v in function.graph.variables}
  captured = {inner.op.name: variables.get(id(outer), outer)
              for outer, inner in function.graph.captures}
  result = tf.compat.v1.GraphDef(versions=graph_def.versions)
  for node in graph_def.node:
    source = node.input[0].split(':')[0] if node.input else ''
    if not isinstance(captured.get(node.name), (tf.Variable, type(None))):
      _add_constant(result, node, captured[node.name].numpy())
    elif isinstance(captured.get(source), tf.Variable):
      if node.op != 'ReadVariableOp':
        raise ValueError(f'{node.name}: {node.op} of a variable cannot be '
                         'written as a constant')
      _add_constant(result, node, captured[source].numpy())
    elif node.name not in captured:
      result.node.add().CopyFrom(node)
  return result


def ops_needed(function) -> set[tf.Operation]:
  """Returns the ops that the outputs of a traced function depend on.

  Args:
    function: A concrete function without control flow.
  """
  pending, seen = [tensor.op for tensor in function.outputs], set()
  while pending:
    op = pending.pop()
    if op not in seen:
      seen.add(op)
      pending += [tensor.op for tensor in op.inputs]
  return seen


def variables_needed(function) -> list[tf.Variable]:
  """Returns the variables that the outputs of a traced function depend on."""
  needed = ops_needed(function)
  by_handle = {id(v.handle): v for v in function.graph.variables}
  return [by_handle[id(outer)] for outer, inner in function.graph.captures
          if inner.op in needed and id(outer) in by_handle]


def _add_constant(graph_def, node, value) -> None:
  """Adds a constant array under the name of a node."""
  tensor = tf.make_tensor_proto(value)
  constant = graph_def.node.add(name=node.name, op='Const')
  constant.attr['dtype'].type = tensor.dtype
  constant.attr['value'].tensor.CopyFrom(tensor)


class Converter(tf.lite.TFLiteConverter):
  """TensorFlow's converter of a traced function, with this freezing."""

  def __init__(self, function, graph: tf.compat.v1.GraphDef):
    """Initializes the converter.

    Args:
      function: A concrete function of one tensor.
      graph: What `freeze` returned for it; it is not changed.
    """
    super().__init__([function])
    self._graph = graph

  def _freeze_concrete_function(self):
    function, = self._funcs
    inputs = function.inputs[:-len(function.captured_inputs) or None]
    graph = tf.compat.v1.GraphDef()
    graph.CopyFrom(self._graph)
    return graph, inputs, function.outputs, function

  def _validate_inputs(self, graph_def, input_tensors):
    """Lets constants of low-bit models have the range of their values.

    TensorFlow leaves those without a quantizer in float then, and with them
    each ADD and MUL of a constant. Kernels have quantizers of their own.
    """
    super()._validate_inputs(graph_def, input_tensors)
    flags = self._quant_mode.converter_flags
    self._quant_mode.converter_flags = lambda *args: {
        **flags(*args), 'disable_infer_tensor_range': False}
