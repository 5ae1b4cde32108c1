"""Reads what TFLite's `benchmark_model` wrote: text, CSV or protocol buffers.

Sources: benchmark_model.cc, profiling_listener.cc and
proto/benchmark_result.proto in tensorflow/lite/tools/benchmark, and
tensorflow/lite/profiling/proto/profiling_info.proto.
"""

import dataclasses
import re
import struct
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.benchmark import op_profile

# Microseconds of stages, e.g. `Init: 5685, First inference: 18535, ...`.
_TIMINGS = re.compile(
    r'Inference timings in us: Init: (?P<init>[\d.e+]+), '
    r'First inference: (?P<first>[\d.e+]+), '
    r'Warmup \(avg\): (?P<warmup>[\d.e+]+), '
    r'Inference \(avg\): (?P<average>[\d.e+]+)')
# Of the runs that follow; the last one is that of the counted ones.
_COUNTED = re.compile(
    r'count=(?P<count>\d+) first=\S+ curr=\S+ min=(?P<min>[\d.e+]+) '
    r'max=(?P<max>[\d.e+]+) avg=[\d.e+]+ std=(?P<std>[\d.e+]+)'
    r'(?: p5=\S+ median=(?P<median>[\d.e+]+) p95=\S+)?')
_MEMORY = re.compile(
    r'(?:Memory footprint delta from the start of the tool|'
    r'Peak memory footprint) \(MB\): init=[\d.e+-]+ overall=(?P<overall>\S+)')
# Field numbers of `BenchmarkResult` and of what is in it.
_LATENCY, _MEMORY_FIELD, _MISC = 2, 3, 4
_LATENCY_FIELDS = {
    1: 'milliseconds', 2: 'min_ms', 3: 'max_ms', 4: 'std_ms', 5: 'median_ms',
    8: 'init_ms', 9: 'first_ms'}
_PEAK_MEMORY, _NUM_RUNS = 2, 2
# Field numbers of `BenchmarkProfilingData` and of what is in it.
_RUNTIME_PROFILE, _SUBGRAPHS, _DELEGATES = 3, 1, 2
_OPS_OF_SUBGRAPH, _OPS_OF_DELEGATE = 3, 2
_NODE_TYPE, _MICROSECONDS, _TIMES_CALLED, _NAME, _RUN_ORDER = 1, 2, 4, 5, 6
_AVERAGE = 3
# Format of numbers by wire type.
_NUMBERS = {1: '<d', 5: '<f'}
# What decoding something else raises.
_DAMAGED = (ValueError, IndexError, TypeError, struct.error)
_KIB = 1024

Value = int | float | bytes


@dataclasses.dataclass(frozen=True)
class Results:
  """What is known of a file on a phone; None where nothing is.

  Attributes:
    milliseconds: Mean time of an inference.
    median_ms: Median, of newer versions of the tool.
    min_ms: Shortest.
    max_ms: Longest.
    std_ms: Standard deviation.
    init_ms: Loading the file.
    first_ms: The first inference.
    num_runs: How many were counted.
    memory_bytes: Memory that the tool had at the end.
    ops: Time of every op, in run order.
  """
  milliseconds: float | None = None
  median_ms: float | None = None
  min_ms: float | None = None
  max_ms: float | None = None
  std_ms: float | None = None
  init_ms: float | None = None
  first_ms: float | None = None
  num_runs: int | None = None
  memory_bytes: int | None = None
  ops: tuple[op_profile.OpTime, ...] = ()

  def merged(self, other: 'Results') -> 'Results':
    """Returns what either of two results knows; the other one's wins."""
    known = {f.name: getattr(other, f.name) for f in dataclasses.fields(other)}
    return dataclasses.replace(self, **{
        name: value for name, value in known.items()
        if value is not None and value != ()})

  def record(self) -> dict[str, Any]:
    """Returns the numbers that are known, ready for JSON."""
    return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
            if f.name != 'ops' and getattr(self, f.name) is not None}


def read(path: str) -> Results:
  """Reads a file of any of the formats.

  Args:
    path: Output of the tool as text, the file of `--profiling_output_csv_file`,
      `--result_file_path` or `--op_profiling_output_file`.

  Raises:
    UsageError: If there is no such file, or it is none of these.
  """
  try:
    with open(path, 'rb') as f:
      content = f.read()
  except OSError as e:
    raise errors.UsageError(
        f'results: {path!r} cannot be read: {e.strerror}') from None
  for parse in (_text, _result, _profile):
    found = parse(content)
    if found != Results():
      return found
  raise errors.UsageError(
      f'results: {path!r} is no output of benchmark_model: expected its text, '
      'a CSV file of its profiler, or a protocol buffer')


def _text(content: bytes) -> Results:
  """Reads text and CSV."""
  try:
    text = content.decode('utf-8').replace('\r\n', '\n')
  except UnicodeDecodeError:
    return Results()
  found: dict[str, Any] = {'ops': tuple(op_profile.parse(text))}
  timings = _TIMINGS.search(text)
  if timings:
    found |= {'milliseconds': float(timings['average']) / 1e3,
              'init_ms': float(timings['init']) / 1e3,
              'first_ms': float(timings['first']) / 1e3}
    counted = list(_COUNTED.finditer(text[:timings.start()]))
    if counted:
      last = counted[-1]
      found |= {'num_runs': int(last['count'])}
      found |= {f'{name}_ms': float(last[name]) / 1e3
                for name in ('min', 'max', 'std', 'median')
                if last[name] is not None}
  memory = _MEMORY.search(text)
  if memory:
    found['memory_bytes'] = round(float(memory['overall']) * _KIB**2)
  return Results(**found)


def _result(content: bytes) -> Results:
  """Reads a `tflite.tools.benchmark.BenchmarkResult`."""
  try:
    parts = dict(_fields(content))
    latency = dict(_fields(_message(parts, _LATENCY)))
    memory = dict(_fields(_message(parts, _MEMORY_FIELD)))
    misc = dict(_fields(_message(parts, _MISC)))
  except _DAMAGED:
    return Results()
  found = {name: latency[number] for number, name in _LATENCY_FIELDS.items()
           if isinstance(latency.get(number), float)}
  if 'milliseconds' not in found:
    return Results()
  if isinstance(memory.get(_PEAK_MEMORY), int):
    found['memory_bytes'] = memory[_PEAK_MEMORY] * _KIB
  if isinstance(misc.get(_NUM_RUNS), int):
    found['num_runs'] = misc[_NUM_RUNS]
  return Results(**found)


def _profile(content: bytes) -> Results:
  """Reads a `tflite.profiling.BenchmarkProfilingData`."""
  try:
    model = _fields(_message(dict(_fields(content)), _RUNTIME_PROFILE))
    delegated = [op for number, part in model if number == _DELEGATES
                 for op in _ops(part, _OPS_OF_DELEGATE, True)]
    graph = [op for number, part in model if number == _SUBGRAPHS
             for op in _ops(part, _OPS_OF_SUBGRAPH, False)]
  except _DAMAGED:
    return Results()
  if delegated:  # The graph has their sum.
    graph = [(order, time) for order, time in graph
             if 'Delegate' not in time.kind]
  return Results(ops=tuple(time for _, time in sorted(
      graph + delegated, key=lambda pair: pair[0])))


def _ops(
    part: Value, number: int, delegated: bool
) -> list[tuple[int, op_profile.OpTime]]:
  """Returns run order and time of the ops in a part of a profile."""
  found = []
  for field, content in _fields(_bytes(part)):
    if field != number:
      continue
    op = dict(_fields(_bytes(content)))
    average = dict(_fields(_message(op, _MICROSECONDS))).get(_AVERAGE, 0)
    calls = max(1, int(op.get(_TIMES_CALLED, 1)))
    kind = _message(op, _NODE_TYPE).decode()
    tensor = _message(op, _NAME).decode().partition(']')[0].removeprefix('[')
    found.append((int(op.get(_RUN_ORDER, 0)), op_profile.OpTime(
        kind.removeprefix('Delegate/'), delegated, '' if delegated else tensor,
        average * calls / 1e3)))
  return found


def _message(fields: dict[int, Value], number: int) -> bytes:
  """Returns the part of a message with a number, empty if it has none."""
  return _bytes(fields.get(number, b''))


def _bytes(value: Value) -> bytes:
  if not isinstance(value, bytes):
    raise ValueError(f'expected a part, found {value!r}')
  return value


def _fields(content: bytes) -> list[tuple[int, Value]]:
  """Returns numbers and values of the fields of an encoded message.

  Floats, integers, and parts in bytes are told by the wire type. Source:
  protobuf.dev, "Encoding". (TensorFlow and LiteRT both define these messages,
  so that their classes cannot be imported together.)
  """
  found: list[tuple[int, Value]] = []
  position = 0
  while position < len(content):
    key, position = _integer(content, position)
    number, wire = key >> 3, key & 7
    if wire == 0:
      value, position = _integer(content, position)
    elif wire == 2:
      size, position = _integer(content, position)
      value = content[position:position + size]
      if len(value) < size:
        raise ValueError('the message ends early')
      position += size
    elif wire in _NUMBERS:
      value, = struct.unpack_from(_NUMBERS[wire], content, position)
      position += struct.calcsize(_NUMBERS[wire])
    else:
      raise ValueError(f'wire type {wire}')
    found.append((number, value))
  return found


def _integer(content: bytes, position: int) -> tuple[int, int]:
  """Returns an integer of variable length, and where the next field begins."""
  value, shift = 0, 0
  while True:
    byte = content[position]
    value |= (byte & 127) << shift
    position, shift = position + 1, shift + 7
    if byte < 128:
      return value, position
