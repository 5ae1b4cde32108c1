"""Runs `.tflite` files: float in, float out, whatever the file's types."""

import collections
import dataclasses
import gzip
import os

from ai_edge_litert import interpreter as litert
import numpy as np

from modelgarden_opt import errors
from modelgarden_opt.evaluation import native_output

_DELEGATE = 'DELEGATE'
_BOUNDARY_OPS = ('QUANTIZE', 'DEQUANTIZE')
_NO_DELEGATES = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
# Images of a call where the file leaves their number open.
_OPEN_BATCH = 8


@dataclasses.dataclass(frozen=True)
class Census:
  """What is in a file, and what the default delegate makes of it.

  Attributes:
    ops: Number of ops by name.
    float_ops: Number of ops that compute in float, by name; the conversions
      at the borders of integer parts do not count.
    num_delegate_partitions: Parts that the XNNPACK delegate takes; 1 is best.
    num_undelegated_ops: Ops that no delegate takes.
    size_bytes: Size of the file.
  """
  ops: dict[str, int]
  float_ops: dict[str, int]
  num_delegate_partitions: int
  num_undelegated_ops: int
  size_bytes: int


class Model:
  """A loaded `.tflite` file with one input and one output."""

  def __init__(self, path: str, num_threads: int | None = None):
    """Loads a file and prepares it with the default delegate.

    Args:
      path: The file.
      num_threads: Threads of the interpreter; None for all cores.

    Raises:
      UsageError: If there is no such file, or it is no TFLite model.
    """
    if not os.path.isfile(path):
      raise errors.UsageError(f'tflite: there is no file {path!r}')
    self.path = path
    self._interpreter = _load(path, num_threads or os.cpu_count())
    self._input, = self._interpreter.get_input_details()
    self._output, = self._interpreter.get_output_details()

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Shape of the input, with the batch size that it is prepared for."""
    return tuple(self._input['shape'])

  @property
  def output_shape(self) -> tuple[int, ...]:
    """Shape of the output, with the batch size that it is prepared for."""
    return tuple(self._output['shape'])

  @property
  def output_scale(self) -> float:
    """Quantization step of the output as the file computes it, 0 for float."""
    return _step_of_output(self._interpreter, self._output)

  def __call__(self, images: np.ndarray) -> np.ndarray:
    """Returns the outputs of float images.

    Outputs are floats whatever the file's types, but for labels. Images are
    fed in the file's own batch size; the last batch is filled up, and what the
    file computes of the filling is dropped.

    Args:
      images: float32 array [n, h, w, c], preprocessed; n >= 1.
    """
    if self._input['shape_signature'][0] == -1:
      self._resize(min(len(images), _OPEN_BATCH))
    size = self.input_shape[0]
    missing = -len(images) % size
    filled = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
    outputs = np.concatenate([
        self._run(filled[start:start + size])
        for start in range(0, len(filled), size)])
    return outputs[:len(images)]

  def _resize(self, batch_size: int) -> None:
    """Prepares a file with an open batch for batches of another size."""
    if self.input_shape[0] == batch_size:
      return
    self._interpreter.resize_tensor_input(
        self._input['index'], [batch_size, *self.input_shape[1:]])
    self._interpreter.allocate_tensors()
    self._input, = self._interpreter.get_input_details()
    self._output, = self._interpreter.get_output_details()

  def set_input(self, images: np.ndarray) -> None:
    """Places float images of shape `input_shape` in the input tensor."""
    self._interpreter.set_tensor(
        self._input['index'], _quantize(images, self._input))

  def invoke(self) -> None:
    """Runs the model on what the input tensor holds."""
    self._interpreter.invoke()

  def _run(self, images: np.ndarray) -> np.ndarray:
    self.set_input(images)
    self.invoke()
    return _dequantize(
        self._interpreter.get_tensor(self._output['index']), self._output)


def census(path: str) -> Census:
  """Returns what a file holds, by loading it without and with its delegate.

  Args:
    path: The file.

  Raises:
    UsageError: If there is no such file, or it is no TFLite model.
  """
  if not os.path.isfile(path):
    raise errors.UsageError(f'tflite: there is no file {path!r}')
  ops = _ops(_load(path, 1, _NO_DELEGATES))
  computing = [op for op in ops if op['op_name'] not in _BOUNDARY_OPS]
  delegated = _load(path, 1)
  delegates = [o for o in _ops(delegated) if o['op_name'] == _DELEGATE]
  return Census(
      ops=_count(ops),
      float_ops=_count(
          op for op in computing if np.float32 in op['result_types']),
      num_delegate_partitions=len(delegates),
      num_undelegated_ops=_num_undelegated(delegated),
      size_bytes=os.path.getsize(path))


def gzip_bytes(path: str) -> int:
  """Returns the size of a file compressed with gzip at level 9."""
  with open(path, 'rb') as f:
    return len(gzip.compress(f.read(), compresslevel=9))


def file_format(path: str) -> str:
  """Returns the export format whose arithmetic a file has."""
  ops = _ops(_load(path, 1, _NO_DELEGATES))
  computing = [op for op in ops if op['op_name'] not in _BOUNDARY_OPS]
  results = {t for op in computing for t in op['result_types']}
  if any(np.float16 in op['operand_types'] for op in ops):
    return 'float16'
  if np.int16 in results:
    return 'int16x8'
  if np.float32 not in results:
    return 'int8'
  operands = {t for op in computing for t in op['operand_types']}
  if np.int8 in results:
    return 'mixed'
  return 'dynamic_int8' if np.int8 in operands else 'float32'


def _ops(interpreter) -> list[dict]:
  """Returns the ops of a loaded file; its delegate's nodes come last."""
  return interpreter._get_ops_details()  # pylint: disable=protected-access


def _count(ops) -> dict[str, int]:
  return dict(collections.Counter(op['op_name'] for op in ops))


def _load(path: str, num_threads: int, resolver=litert.OpResolverType.AUTO):
  try:
    with native_output.without_delegate_line():
      interpreter = litert.Interpreter(
          path, num_threads=num_threads,
          experimental_op_resolver_type=resolver)
      interpreter.allocate_tensors()
  except (ValueError, RuntimeError) as e:
    raise errors.UsageError(
        f'tflite: {path!r} cannot be loaded: {str(e).splitlines()[0]}') from e
  return interpreter


def problem(content: bytes) -> str:
  """Returns why TFLite's kernels cannot run a file, '' if they can."""
  try:
    litert.Interpreter(
        model_content=content,
        experimental_op_resolver_type=_NO_DELEGATES).allocate_tensors()
  except (ValueError, RuntimeError) as e:
    return str(e).splitlines()[0]
  return ''


def _num_undelegated(interpreter) -> int:
  """Counts the ops that run outside of any delegate.

  The list of ops keeps those that a delegate replaced; walking back from the
  outputs shows which ones still run.
  """
  ops = _ops(interpreter)
  # A delegate's node stands behind the ops it replaced, so it wins.
  producers = {int(t): op for op in ops for t in op['outputs']}
  pending = [d['index'] for d in interpreter.get_output_details()]
  running, seen = {}, set()
  while pending:
    tensor = int(pending.pop())
    op = producers.get(tensor)
    if op is None or tensor in seen:
      continue
    seen.add(tensor)
    running[op['index']] = op
    pending.extend(op['inputs'])
  return sum(op['op_name'] != _DELEGATE for op in running.values())


def _quantize(values: np.ndarray, detail) -> np.ndarray:
  dtype = detail['dtype']
  if dtype == np.float32:
    return values.astype(np.float32)
  scale, zero_point = detail['quantization']
  info = np.iinfo(dtype)
  return np.clip(
      np.round(values / scale) + zero_point, info.min, info.max).astype(dtype)


def _dequantize(values: np.ndarray, detail) -> np.ndarray:
  if detail['dtype'] == np.float32:
    return values.copy()
  scale, zero_point = detail['quantization']
  if not scale:
    return values.copy()  # Labels: integers that stand for themselves.
  return (values.astype(np.float32) - zero_point) * np.float32(scale)


def _step_of_output(interpreter, detail) -> float:
  """Returns the scale of the integer tensor that the output comes from."""
  if detail['quantization'][0]:
    return float(detail['quantization'][0])
  scales = {t['index']: t['quantization'][0]
            for t in interpreter.get_tensor_details()}
  return next((float(scales[int(op['inputs'][0])]) for op in _ops(interpreter)
               if op['op_name'] == 'DEQUANTIZE' and
               detail['index'] in op['outputs']), 0.0)
