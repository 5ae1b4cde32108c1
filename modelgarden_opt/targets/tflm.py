"""What a file needs on a microcontroller with TensorFlow Lite Micro (TFLM).

The interpreter of the tflite-micro wheel runs the file on this machine, in a
process of its own. Its pointers have 8 bytes, those of most microcontrollers 4,
so the arena there is somewhat smaller than what is reported. Times mean
nothing: the wheel has reference kernels, not those of CMSIS-NN.
"""

import os
import re
import sys
import tempfile
from typing import Any

import numpy as np

from modelgarden_opt import errors
from modelgarden_opt import processes
from modelgarden_opt.evaluation import litert_loading
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.evaluation import tensors
from modelgarden_opt.targets import c_array
from modelgarden_opt.targets import devices
from modelgarden_opt.targets import tflm_ops

PACKAGE = 'tflite-micro'
# Bytes of arena to try, as multiples of what the file's tensors have.
_FACTORS = (2, 8)
_LEAST_ARENA = 1 << 20
_ARENA = re.compile(
    r'Arena allocation (total|head|tail) (\d+) bytes')
# Source of inputs where no run directory gives images.
_RANDOM = 'random'
# What TFLM says when the arena is too small.
_TOO_SMALL = ('Failed to resize buffer', 'Failed to allocate',
              'failed to allocate', 'Arena size is too small')


def measure(path: str, options: devices.Options) -> devices.Record:
  """Runs a file in TFLM and in LiteRT.

  Args:
    path: The file.
    options: `model_dir`, `num_images`, `c_array` and `time_limit` are read.

  Returns:
    `arena_bytes`, the ops to register, and how often TFLM and LiteRT predict
    the same class. `max_difference` is in the file's own type: in output steps
    for integers.

  Raises:
    UsageError: If the wheel is not installed, or there is not one input and
      one output.
    Failure: If TFLM cannot run the file; the message is its own.
  """
  version = processes.version(PACKAGE)
  file = model_file.read(path)
  if len(file.inputs) != 1 or len(file.outputs) != 1:
    raise errors.UsageError(
        f'tflite: {path!r} has {len(file.inputs)} inputs and '
        f'{len(file.outputs)} outputs, expected one of each')
  with litert_loading.named(path):
    interpreter = litert_loading.load(path, 1)
    inputs, source = _inputs(interpreter.get_input_details()[0], options)
  outputs, said = _run(path, file, inputs, options)
  arena = {part: int(size) for part, size in _ARENA.findall(said)}
  if 'total' not in arena:
    raise errors.Failure(
        f'{PACKAGE} {version} does not say what the arena holds')
  ops = file.count()
  record = {
      'tool': PACKAGE, 'version': version, 'arena_bytes': arena['total'],
      'flash_bytes': os.path.getsize(path),
      'persistent_bytes': arena['tail'],
      'ops': ops, 'resolver': sorted(tflm_ops.method(op) for op in ops),
      **_agreement(path, interpreter, inputs, outputs), 'images': source,
      'notes': _notes(source)}
  if options.c_array:
    record['c_array'] = c_array.write(options.c_array, file, arena['total'])
  return record


def _notes(source: str) -> list[str]:
  notes = ['flash bytes are those of the file, without the code of TFLM']
  if source == _RANDOM:
    notes.append('compared with LiteRT on random images, whose classes are '
                 'close to each other; --model_dir gives real ones')
  return notes


def _inputs(
    detail: dict[str, Any], options: devices.Options
) -> tuple[np.ndarray, str]:
  """Returns inputs in the file's own type, [n, *shape], and their source."""
  shape = tuple(int(size) for size in detail['shape'])
  kept, source = None, _RANDOM
  if options.model_dir:  # Without TensorFlow this takes a second.
    from modelgarden_opt.data import representative  # pylint: disable=g-import-not-at-top
    kept, source = (
        representative.load(options.model_dir), representative.FILE_NAME)
    if kept is None:
      raise errors.UsageError(
          f'model_dir: {options.model_dir!r} keeps no {source}')
  if kept is None:
    rng = np.random.default_rng(0)
    count = options.num_images * shape[0]
    images = rng.uniform(-1, 1, (count, *shape[1:]))
  else:
    images = kept.images
    if images.shape[1:] != shape[1:]:
      raise errors.UsageError(
          f'model_dir: the images of {options.model_dir!r} have the shape '
          f'{list(images.shape[1:])}, the file takes {list(shape[1:])}')
  count = min(len(images) // shape[0], options.num_images)
  if not count:
    raise errors.UsageError(
        f'tflite: a call takes {shape[0]} images, {source} has {len(images)}')
  images = images[:count * shape[0]].reshape(count, *shape)
  return tensors.quantize(images, detail), source


def _run(
    path: str, file: model_file.ModelFile, inputs: np.ndarray,
    options: devices.Options,
) -> tuple[np.ndarray, str]:
  """Runs TFLM; returns its outputs, and what it prints."""
  size = sum(int(np.prod(t.shape, dtype=np.int64)) * 4
             for op in file.ops for t in op.results) + _LEAST_ARENA
  for factor in _FACTORS:
    with tempfile.TemporaryDirectory() as directory:
      places = [os.path.join(directory, name)
                for name in ('inputs.npy', 'outputs.npy')]
      np.save(places[0], inputs)
      finished = processes.run(
          [sys.executable, os.path.join(
              os.path.dirname(__file__), 'tflm_driver.py'),
           path, str(min(factor * size, 2**31 - 1)), *places],
          options.time_limit)
      if not finished.returncode:
        return np.load(places[1]), finished.err
    if not any(text in finished.err for text in _TOO_SMALL):
      break
  raise errors.Failure(f'TensorFlow Lite Micro cannot run {path!r} '
                       f'({finished.end()}): {_first_message(finished.err)}')


def _first_message(text: str) -> str:
  """Returns what TFLM said, without Python's traceback."""
  said = text.partition('Traceback')[0].strip().splitlines()
  return '; '.join(line.strip() for line in said if line.strip()) or (
      text.strip().splitlines() or ['no message'])[-1]


def _agreement(
    path: str, interpreter, inputs: np.ndarray, outputs: np.ndarray):
  """Compares outputs of TFLM with LiteRT's on the same inputs."""
  expected = []
  with litert_loading.named(path):
    source, = interpreter.get_input_details()
    target, = interpreter.get_output_details()
    for values in inputs:
      interpreter.set_tensor(source['index'], values)
      interpreter.invoke()
      expected.append(interpreter.get_tensor(target['index']).copy())
  expected = np.stack(expected)
  difference = np.abs(expected.astype(np.float64) - outputs)
  return {
      'num_examples': len(inputs), 'max_difference': float(difference.max()),
      'agreement': float(np.mean(_classes(outputs) == _classes(expected)))}


def _classes(outputs: np.ndarray) -> np.ndarray:
  """Returns the classes of scores; labels are their own."""
  labels = outputs.dtype in (np.int32, np.int64)
  return outputs if labels else np.argmax(outputs, -1)
