"""What a file is and what its outputs mean, in TFLite's metadata format.

Tools find a `ModelMetadata` flatbuffer under the name `TFLITE_METADATA`, and
the files that it names in a zip archive at the end of the model.
Source: tensorflow/tflite-support, metadata_schema.fbs, version 1.5.0.
"""

from collections.abc import Callable
from collections.abc import Sequence
import io
import zipfile

import flatbuffers
from tensorflow.lite.python import schema_py_generated as schema

from modelgarden_opt.evaluation import label_map
from modelgarden_opt.export.lowering import flatbuffer
from modelgarden_opt.export.lowering import signature

_NAME = 'TFLITE_METADATA'
_IDENTIFIER = b'M001'
_TENSOR_AXIS_LABELS = 2  # AssociatedFileType

# Number of fields of a table, and which is which.
_MODEL, _MODEL_DESCRIPTION, _MODEL_VERSION, _MODEL_GRAPHS = 8, 1, 2, 3
_GRAPH, _GRAPH_INPUTS, _GRAPH_OUTPUTS = 10, 2, 3
_TENSOR, _TENSOR_NAME, _TENSOR_FILES = 7, 0, 6
_FILE, _FILE_NAME, _FILE_TYPE = 5, 0, 2


def add(
    output: str, description: str, version: str, labels: Sequence[str] = (),
) -> flatbuffer.Pass:
  """Returns the pass that describes a file.

  Args:
    output: Name of the output, as in the signature.
    description: What the file is, in a line.
    version: Version of what wrote it.
    labels: Names of the classes; `append_labels` writes them.
  """
  builder = flatbuffers.Builder(512)
  content = _model(builder, output, description, version, bool(labels))
  builder.Finish(content, file_identifier=_IDENTIFIER)
  data = bytes(builder.Output())

  def change(model: flatbuffer.Model) -> None:
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, flatbuffer.add_buffer(model, data)
    model.metadata = [*(model.metadata or []), entry]

  return change


def append_labels(content: bytes, labels: Sequence[str]) -> bytes:
  """Returns a file with the names of its classes, one a line, at its end.

  Args:
    content: A `.tflite` file. Passes drop what this appends, so it comes last.
    labels: Names of the classes, in the order of the output.
  """
  if not labels:
    return content
  stream = io.BytesIO(content)
  with zipfile.ZipFile(stream, 'a') as archive:
    # Of no date: equal models give equal files.
    archive.writestr(zipfile.ZipInfo(label_map.FILE), '\n'.join(labels))
  return stream.getvalue()


def _model(builder, output, description, version, with_labels) -> int:
  files = None
  if with_labels:
    name = builder.CreateString(label_map.FILE)
    files = _vector(builder, [_table(builder, _FILE, {
        _FILE_NAME: name,
        _FILE_TYPE: lambda: builder.PrependInt8(_TENSOR_AXIS_LABELS)})])
  tensors = []
  for name, named_files in ((signature.INPUT, None), (output, files)):
    fields = {_TENSOR_NAME: builder.CreateString(name)}
    if named_files:
      fields[_TENSOR_FILES] = named_files
    tensors.append(_vector(builder, [_table(builder, _TENSOR, fields)]))
  graph = _table(builder, _GRAPH, dict(zip(
      (_GRAPH_INPUTS, _GRAPH_OUTPUTS), tensors)))
  return _table(builder, _MODEL, {
      _MODEL_DESCRIPTION: builder.CreateString(description),
      _MODEL_VERSION: builder.CreateString(version),
      _MODEL_GRAPHS: _vector(builder, [graph])})


def _table(builder, size: int, fields: dict[int, int | Callable]) -> int:
  """Writes a table; returns its offset.

  Args:
    builder: The flatbuffer's builder.
    size: Number of fields in the schema.
    fields: Offset of a string, vector or table, or what writes a scalar, by
      number of the field.
  """
  builder.StartObject(size)
  for number, value in fields.items():
    if callable(value):
      value()
    else:
      builder.PrependUOffsetTRelative(value)
    builder.Slot(number)
  return builder.EndObject()


def _vector(builder, offsets: Sequence[int]) -> int:
  builder.StartVector(4, len(offsets), 4)
  for offset in reversed(offsets):
    builder.PrependUOffsetTRelative(offset)
  return builder.EndVector()
