"""Runs a `.tflite` file under LiteRT's profiler; a script.

    litert_profiler.py LIBRARY FILE NUM_THREADS NUM_RUNS

Prints the profiler's summary. LiteRT has no Python interface for it; its C
interface, called here by ctypes, changes between releases, so `per_op` runs
this with the versions that it was tested with, in a process of its own.
Source: litert/c/ of google-ai-edge/LiteRT, v2.3.0.
"""

import ctypes
import random
import struct
import sys

# Group of options and what is written there, as TOML.
_RUNTIME = (b'runtime_options_string', b'enable_profiling = true\n')
_CPU = 1  # kLiteRtHwAcceleratorCpu
_FLOAT32 = 1  # kLiteRtElementTypeFloat32
_WRITE = 1  # kLiteRtTensorBufferLockModeWrite
# Room for a LiteRtRankedTensorType.
_TYPE_BYTES = 512
_NUM_WARM_UP = 5


class _Library:
  """LiteRT's C functions: `call` raises what they return as a status."""

  def __init__(self, path: str):
    self._library = ctypes.CDLL(path)

  def call(self, name: str, *args) -> None:
    status = getattr(self._library, name)(*args)
    if status:
      raise RuntimeError(f'{name} returns status {status}')

  def get(self, name: str, *args, kind=ctypes.c_void_p):
    """Returns what a function writes to its last argument."""
    value = kind()
    self.call(name, *args, ctypes.byref(value))
    return value


def _options(litert: _Library, num_threads: int) -> ctypes.c_void_p:
  libc = ctypes.CDLL(None)
  libc.strdup.restype = ctypes.c_void_p
  free = ctypes.cast(libc.free, ctypes.c_void_p)
  options = litert.get('LiteRtCreateOptions')
  litert.call('LiteRtSetOptionsHardwareAccelerators', options, _CPU)
  threads = (b'xnnpack', b'num_threads = %d\n' % num_threads)
  for group, text in (_RUNTIME, threads):
    opaque = litert.get('LiteRtCreateOpaqueOptions', group,
                        ctypes.c_void_p(libc.strdup(text)), free)
    litert.call('LiteRtAddOpaqueOptions', options, opaque)
  return options


def _fill(litert: _Library, buffer: ctypes.c_void_p, kind: int) -> None:
  """Writes random values: floats in [-1, 1], or bytes."""
  size = litert.get('LiteRtGetTensorBufferPackedSize', buffer,
                    kind=ctypes.c_size_t).value
  rng = random.Random(0)
  if kind == _FLOAT32:
    count = size // 4
    content = struct.pack(
        f'{count}f', *(rng.uniform(-1, 1) for _ in range(count)))
  else:
    content = rng.randbytes(size)
  address = ctypes.c_void_p()
  litert.call('LiteRtLockTensorBuffer', buffer, ctypes.byref(address), _WRITE)
  ctypes.memmove(address, content, len(content))
  litert.call('LiteRtUnlockTensorBuffer', buffer)


def _buffers(litert: _Library, model, signature, which: str, fill: bool):
  """Returns an array of buffers for all inputs or all outputs."""
  number = litert.get(f'LiteRtGetNumSignature{which}s', signature,
                      kind=ctypes.c_size_t).value
  buffers = (ctypes.c_void_p * number)()
  for index in range(number):
    position = ctypes.c_size_t(index)
    tensor = litert.get(
        f'LiteRtGetSignature{which}TensorByIndex', signature, position)
    kind = ctypes.create_string_buffer(_TYPE_BYTES)
    litert.call('LiteRtGetRankedTensorType', tensor, kind)
    needs = litert.get(
        f'LiteRtGetCompiledModel{which}BufferRequirements', model,
        ctypes.c_size_t(0), position)
    environment = litert.environment
    buffer = litert.get('LiteRtCreateManagedTensorBufferFromRequirements',
                        environment, kind, needs)
    if fill:
      _fill(litert, buffer, struct.unpack_from('i', kind)[0])
    buffers[index] = buffer
  return number, buffers


def main(library: str, path: str, num_threads: int, num_runs: int) -> None:
  """Prints the profiler's summary of `num_runs` inferences."""
  litert = _Library(library)
  litert.environment = litert.get('LiteRtCreateEnvironment', 0, None)
  model = litert.get(
      'LiteRtCreateModelFromFile', litert.environment, path.encode())
  compiled = litert.get('LiteRtCreateCompiledModel', litert.environment, model,
                        _options(litert, num_threads))
  signature = litert.get('LiteRtGetModelSignature', model, ctypes.c_size_t(0))
  inputs = _buffers(litert, compiled, signature, 'Input', fill=True)
  outputs = _buffers(litert, compiled, signature, 'Output', fill=False)

  def run(times: int) -> None:
    for _ in range(times):
      litert.call('LiteRtRunCompiledModel', compiled, ctypes.c_size_t(0),
                  ctypes.c_size_t(inputs[0]), inputs[1],
                  ctypes.c_size_t(outputs[0]), outputs[1])

  run(_NUM_WARM_UP)
  profiler = litert.get('LiteRtCompiledModelGetProfiler', compiled)
  if not profiler:
    raise RuntimeError('LiteRT gives no profiler')
  litert.call('LiteRtResetProfiler', profiler)
  litert.call('LiteRtStartProfiler', profiler)
  run(num_runs)
  litert.call('LiteRtStopProfiler', profiler)
  summary = litert.get('LiteRtGetProfileSummary', profiler, compiled,
                       kind=ctypes.c_char_p)
  print(summary.value.decode(errors='replace'))


if __name__ == '__main__':
  main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
