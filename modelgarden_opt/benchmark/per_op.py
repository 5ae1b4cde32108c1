"""Time of every op of a `.tflite` file, by LiteRT's own profiler."""

from collections.abc import Sequence
import importlib.metadata
import importlib.util
import os
import sys
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import processes
from modelgarden_opt.benchmark import op_profile
from modelgarden_opt.evaluation import model_file

PACKAGE = 'ai-edge-litert'
# Releases whose C interface `litert_profiler` speaks.
TESTED = ('2.3.0',)
_LIBRARY = 'libLiteRt.so'
_DRIVER = os.path.join(os.path.dirname(__file__), 'litert_profiler.py')
# Ops that keep their order where the delegate runs them, and what its kernels
# begin with. XNNPACK runs pointwise convolutions as fully connected.
_GROUPS = (
    (('CONV_2D', 'DEPTHWISE_CONV_2D', 'FULLY_CONNECTED', 'TRANSPOSE_CONV'),
     ('Convolution', 'Fully Connected', 'Deconvolution')),
    (('ADD',), ('Add',)),
    (('SUB',), ('Subtract',)),
    (('MUL',), ('Multiply',)),
    (('MEAN',), ('Mean', 'Global Average Pooling')),
    (('AVERAGE_POOL_2D',), ('Average Pooling',)),
    (('MAX_POOL_2D',), ('Max Pooling',)),
    (('SOFTMAX',), ('Softmax',)),
    (('LOGISTIC',), ('Sigmoid',)),
    (('HARD_SWISH',), ('HardSwish', 'Hardswish')),
    (('PAD',), ('Constant Pad', 'Static Constant Pad')),
    (('CONCATENATION',), ('Concatenate', 'Copy')),
    (('RESIZE_BILINEAR',), ('Resize Bilinear', 'Static Resize Bilinear')),
    (('QUANTIZE', 'DEQUANTIZE'), ('Convert',)),
)


def measure(
    path: str, num_threads: int = 1, num_runs: int = 50,
    time_limit: float = 300.0,
) -> dict[str, Any]:
  """Times the ops of a file.

  Args:
    path: The file.
    num_threads: Threads of the delegate.
    num_runs: Inferences whose mean is taken.
    time_limit: Seconds that it may take.

  Returns:
    `ops` in the order in which they run (`op`, `kernel`, `layer`,
    `milliseconds` of one inference), their sum, and sums `by_op`, `by_kernel`
    and `by_layer`. A layer is '' where the delegate's kernels cannot be matched
    with the ops of the file.

  Raises:
    UsageError: If this release of LiteRT was not tested, or the file is no
      TFLite model.
    Failure: If the profiler fails.
  """
  library = _library()
  file, = check([path])
  with files.local(path) as there:
    finished = processes.run(
        [sys.executable, _DRIVER, library, there, str(num_threads),
         str(num_runs)], time_limit)
  times = op_profile.parse(finished.out, num_runs)
  if finished.returncode or not times:
    raise errors.Failure(
        f"LiteRT's profiler cannot run {path!r} ({finished.end()}): "
        f'{finished.last_line()}')
  return summarize(times, file)


def check(paths: Sequence[str]) -> list[model_file.ModelFile]:
  """Reads files whose ops are to be timed.

  Raises:
    UsageError: If this release of LiteRT was not tested, or one of them is no
      TFLite model, or has an open batch size.
  """
  _library()
  found = [model_file.read(path) for path in paths]
  for file in found:
    if any(tensor.dynamic for tensor in file.inputs):
      raise errors.UsageError(
          f'per_op: {file.path!r} has an open batch size, which the profiler '
          'does not take; `export --batch_size=1` writes a fixed one')
  return found


def _library() -> str:
  """Returns the path of LiteRT's library, if its interface is known."""
  version = importlib.metadata.version(PACKAGE)
  known = ' or '.join(f'{PACKAGE}=={v}' for v in TESTED)
  if version not in TESTED:
    raise errors.UsageError(
        f'per_op: the profiler is used through an interface that changes with '
        f'every release, expected {known}, received {version}')
  spec = importlib.util.find_spec('ai_edge_litert')
  path = os.path.join(os.path.dirname(spec.origin), _LIBRARY)
  if not os.path.exists(path):
    raise errors.UsageError(
        f'per_op: {PACKAGE} has no {_LIBRARY} on this system')
  return path


def summarize(
    times: Sequence[op_profile.OpTime], file: model_file.ModelFile
) -> dict[str, Any]:
  """Returns the record of `measure` for what a profiler printed of a file."""
  ops = match(times, file)
  keys = {
      'by_op': [op.name if op else _base(t.kind) for t, op in zip(times, ops)],
      'by_kernel': [t.kind for t in times],
      'by_layer': [layer(op) if op else '' for op in ops]}
  return {
      'milliseconds': sum(t.milliseconds for t in times),
      'ops': [
          {'op': name, 'kernel': t.kind, 'layer': path,
           'delegated': t.delegated, 'milliseconds': t.milliseconds}
          for t, name, path in zip(times, keys['by_op'], keys['by_layer'])],
      **{key: op_profile.sums(times, values) for key, values in keys.items()}}


def match(
    times: Sequence[op_profile.OpTime], file: model_file.ModelFile
) -> list[model_file.Op | None]:
  """Returns the op of the file that every row belongs to.

  Both are in the order of execution, so the n-th convolution of one is the
  n-th of the other, unless their numbers differ.

  Args:
    times: Rows of the profiler in their order.
    file: The file.
  """
  found: list[model_file.Op | None] = [None] * len(times)
  grouped = {name for names, _ in _GROUPS for name in names}
  others = sorted({op.name for op in file.ops} - grouped)
  for names, kernels in (*_GROUPS, *(((name,), ()) for name in others)):
    rows = [i for i, t in enumerate(times)
            if t.kind in names or _base(t.kind) in kernels]
    ops = [op for op in file.ops if op.name in names and not _decodes(op)]
    if len(rows) == len(ops):
      for row, op in zip(rows, ops):
        found[row] = op
  return found


def _decodes(op: model_file.Op) -> bool:
  """Whether an op decodes weights, which the delegate does once."""
  return bool(op.operands) and op.operands[0] is not None and (
      op.operands[0].constant)


def _base(kernel: str) -> str:
  """Returns the name of a kernel without its types: `Add` of `Add (ND)`."""
  return kernel.partition(' (')[0]


def layer(op: model_file.Op) -> str:
  """Returns the path of the layer that an op comes from.

  The name of its result lists the TensorFlow ops that were fused, the first one
  that computed last.
  """
  return op.where.split(';')[-1].rpartition('/')[0]
