"""A `.tflite` file as objects, and back."""

from collections.abc import Callable

import flatbuffers
from flatbuffers import number_types
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

Model = schema.ModelT
Pass = Callable[[Model], None]

_IDENTIFIER = b'TFL3'
# `force_align` of a buffer's data in TFLite's schema.fbs.
_ALIGNMENT = 16


def edit(content: bytes, *passes: Pass) -> bytes:
  """Returns a file after some passes.

  Args:
    content: A `.tflite` file; what is appended to its flatbuffer is dropped.
    *passes: Each changes the model in place.
  """
  model = Model.InitFromPackedBuf(content)
  for change in passes:
    change(model)
  model.buffers = [_aligned(buffer) for buffer in model.buffers]
  # The builder doubles its memory (and copies) until the file fits.
  builder = flatbuffers.Builder(len(content) + (1 << 16))
  builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
  return bytes(builder.Output())


def add_buffer(model: Model, data: bytes) -> int:
  """Appends a buffer to a model; returns its index."""
  buffer = schema.BufferT()
  buffer.data = np.frombuffer(data, np.uint8)
  model.buffers.append(buffer)
  return len(model.buffers) - 1


def op_codes(model: Model) -> list[int]:
  """Returns the `schema.BuiltinOperator` of every operator code of a model."""
  return [max(code.builtinCode, code.deprecatedBuiltinCode)
          for code in model.operatorCodes]


class _AlignedBuffer(schema.BufferT):
  """A buffer whose data are aligned as the schema demands.

  The generated Python code ignores that, and kernels of some processors
  cannot read what is not aligned.
  """

  def Pack(self, builder):  # pylint: disable=invalid-name
    payload = np.asarray(self.data, np.uint8).tobytes()
    builder.StartVector(number_types.Uint8Flags.bytewidth, len(payload),
                        _ALIGNMENT)
    builder.head -= len(payload)
    builder.Bytes[builder.head:builder.head + len(payload)] = payload
    data = builder.EndVector()
    schema.BufferStart(builder)
    schema.BufferAddData(builder, data)
    return schema.BufferEnd(builder)


def _aligned(buffer: schema.BufferT) -> schema.BufferT:
  """Returns a buffer that is written aligned; one without data as it is."""
  if buffer.data is None:
    return buffer
  aligned = _AlignedBuffer()
  aligned.data = buffer.data
  return aligned
