"""Names for the input and the output of a file."""

from tensorflow.lite.python import schema_py_generated as schema

from modelgarden_opt.export.lowering import flatbuffer

KEY = 'serving_default'
INPUT = 'image'


def add(output: str) -> flatbuffer.Pass:
  """Returns the pass that gives a file its one signature, `serving_default`.

  Tools that calibrate, compare or serve files run them by signature.

  Args:
    output: Name of the output. The input is called `image`.
  """

  def change(model: flatbuffer.Model) -> None:
    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey = KEY
    signature.inputs = [_named(INPUT, graph.inputs[0])]
    signature.outputs = [_named(output, graph.outputs[0])]
    signature.subgraphIndex = 0
    model.signatureDefs = [signature]

  return change


def _named(name: str, tensor: int) -> schema.TensorMapT:
  entry = schema.TensorMapT()
  entry.name, entry.tensorIndex = name, int(tensor)
  return entry
