"""Time of every op, as TFLite's profiler prints it.

LiteRT and `benchmark_model` print the same tables, as aligned text or as CSV.
Source: `StatsCalculator` of tensorflow/core/util/stats_calculator.cc.
"""

import collections
from collections.abc import Sequence
import dataclasses
import re

_DELEGATE = 'Delegate/'
# What stands before the tables of all inferences in `benchmark_model`'s output;
# tables of its initialization are before it.
_REGULAR = 'Operator-wise Profiling Info for Regular Benchmark Runs'
_TITLE = re.compile(r'^(?:INFO: )?=+ (.*?) =+$')
_RUN_ORDER = 'Run Order'
# Columns: type, start (older versions), first, average, two percentages,
# memory, calls, name.
_NUMBER = r'-?(?:[\d.]+(?:e[+-]?\d+)?|nan|inf)'
_ROW = (r'^\s*(?P<kind>.*?)S(?:NS)??NS(?P<average>N)SN%?SN%?SNS(?P<calls>\d+)S'
        r'(?P<name>.*)$')
_ROWS = [re.compile(_ROW.replace('S', separator).replace('N', _NUMBER))
         for separator in (r'\s+', r',\s*')]


@dataclasses.dataclass(frozen=True)
class OpTime:
  """One op of the run order.

  Attributes:
    kind: An op of TFLite, or a kernel of the delegate.
    delegated: Whether it is a kernel of the delegate.
    tensor: Name of the result of an op of TFLite, '' for delegated ones.
    milliseconds: Time of one inference.
  """
  kind: str
  delegated: bool
  tensor: str
  milliseconds: float


def parse(text: str, num_runs: int = 1) -> list[OpTime]:
  """Returns the ops of the table `Run Order`, [] if there is none.

  Args:
    text: What the profiler printed.
    num_runs: Inferences that the column `times called` counts.
  """
  text = text.partition(_REGULAR)[2] or text
  found, inside = [], False
  for line in text.splitlines():
    title = _TITLE.match(line.strip())
    if title:
      if found:
        break
      inside = title[1] == _RUN_ORDER
    elif inside:
      row = next((m for m in (p.match(line) for p in _ROWS) if m), None)
      if row:
        found.append(_op_time(row, num_runs))
  return found


def _op_time(row: re.Match[str], num_runs: int) -> OpTime:
  kind, name = row['kind'], row['name'].strip()
  delegated = kind.startswith(_DELEGATE) or name.startswith(_DELEGATE)
  tensor = re.fullmatch(r'\[(.*)\](?::\d+)?', name)
  return OpTime(
      kind.removeprefix(_DELEGATE), delegated,
      tensor[1] if tensor and not delegated else '',
      float(row['average']) * int(row['calls']) / num_runs)


def sums(
    times: Sequence[OpTime], keys: Sequence[str]
) -> list[dict[str, str | float | int]]:
  """Returns milliseconds, share and number of ops by a key, largest first.

  Args:
    times: The ops.
    keys: Key of each op.
  """
  groups = collections.defaultdict(list)
  for time, key in zip(times, keys):
    groups[key].append(time.milliseconds)
  total = sum(time.milliseconds for time in times)
  return [{'name': name, 'milliseconds': sum(found),
           'share': sum(found) / total if total else 0.0, 'count': len(found)}
          for name, found in sorted(
              groups.items(), key=lambda item: -sum(item[1]))]
