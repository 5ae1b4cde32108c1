"""A `.tflite` file as a C array for TensorFlow Lite Micro, with an example."""

from collections.abc import Iterator
import os
import string

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.targets import tflm_ops

# Bytes in a line of the array.
_WIDTH = 12
# The arena of the example is a multiple of this.
_UNIT = 1024
_HEADER = """/* {name}, {size} bytes. */
#ifndef MODEL_DATA_H_
#define MODEL_DATA_H_

#ifdef __cplusplus
extern "C" {{
#endif

extern const unsigned char model_data[];
extern const unsigned int model_data_size;

#ifdef __cplusplus
}}
#endif

#endif
"""


def write(
    directory: str, file: model_file.ModelFile, arena_bytes: int
) -> list[str]:
  """Writes the array, an example that runs it, and how to compile both.

  Args:
    directory: Where to; files of the same names are replaced.
    file: The file.
    arena_bytes: Bytes of the arena that the file needs.

  Returns:
    The paths of what was written.

  Raises:
    UsageError: If the directory cannot be written.
  """
  with open(file.path, 'rb') as f:
    content = f.read()
  values = _values(file, len(content), arena_bytes)
  name = os.path.basename(file.path)
  written = {
      'model_data.h': _HEADER.format(name=name, size=len(content)),
      'model_data.c': '\n'.join(_array(content)) + '\n',
      'main.cc': _template('tflm_main.cc.template').substitute(values),
      'README.md': _template('tflm_readme.md.template').substitute(values)}
  paths = []
  for name, text in written.items():
    paths.append(os.path.join(directory, name))
    try:
      files.write_atomically(paths[-1], text)
    except Exception as e:  # Of any file system of TensorFlow.
      raise errors.UsageError(
          f'c_array: {directory!r} cannot be written: {errors.of_op(e)}'
      ) from None
  return paths


def _array(content: bytes) -> Iterator[str]:
  """Yields the lines of the C file."""
  yield '#include "model_data.h"'
  yield ''
  yield '/* Aligned as the format demands. */'
  yield '_Alignas(16) const unsigned char model_data[] = {'
  for start in range(0, len(content), _WIDTH):
    row = content[start:start + _WIDTH]
    yield '  ' + ' '.join(f'0x{value:02x},' for value in row)
  yield '};'
  yield f'const unsigned int model_data_size = {len(content)};'


def _values(
    file: model_file.ModelFile, size: int, arena_bytes: int
) -> dict[str, str]:
  """Returns what the templates need."""
  ops = sorted(file.count())
  values = {
      'name': os.path.basename(file.path), 'file_bytes': f'{size:,}',
      'num_ops': str(len(ops)), 'arena_bytes': f'{arena_bytes:,}',
      'arena_size': str(-(-arena_bytes // _UNIT) * _UNIT),
      'register': '\n'.join(
          f'  TF_LITE_ENSURE_STATUS(resolver.{tflm_ops.method(op)}());'
          for op in ops)}
  for which, tensor in (('input', file.inputs[0]), ('output', file.outputs[0])):
    values[f'{which}_dtype'] = tensor.dtype
    values[f'{which}_shape'] = str(list(tensor.shape))
    values[f'{which}_scale'] = '' if tensor.scale is None else (
        f', value = {tensor.scale:.9g} * (stored - {tensor.zero_point})')
  return values


def _template(name: str) -> string.Template:
  path = os.path.join(os.path.dirname(__file__), name)
  with open(path, encoding='utf-8') as f:
    return string.Template(f.read())
