"""`modelgarden-opt benchmark`: latency and size, timed interleaved."""

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output

# Rows of a table of ops that are printed; all are in the JSON file.
_NUM_SUMS = 12
# More threads than any machine here has cores.
_MAX_THREADS = 1024
# Columns of quantiles: field, heading.
_QUANTILES = (('median_ms', 'median ms'), ('p90_ms', 'p90 ms'),
              ('p99_ms', 'p99 ms'))


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--tflite', action='append', required=True,
                      metavar='PATH', help='file to time; repeatable')
  parser.add_argument('--num_threads', default='1', metavar='N[,N]',
                      help='threads of the interpreter, one number or several '
                      '(default: 1)')
  parser.add_argument('--delegate', default='xnnpack', metavar='NAME[,NAME]',
                      help='xnnpack, none or both (default: xnnpack)')
  parser.add_argument('--num_runs', type=int, default=100,
                      help='timed runs of every file (default: 100)')
  parser.add_argument('--warm_up', type=int, default=5, metavar='N',
                      help='runs of every file before them (default: 5)')
  parser.add_argument('--time_limit', type=float, default=300.0,
                      metavar='SECONDS',
                      help='ends a file that takes longer to load, or for a '
                      'few runs (default: 300)')
  parser.add_argument('--per_op', action='store_true',
                      help="also time every op with LiteRT's profiler, summed "
                      'by op, kernel and layer')
  output.add_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Times the files, and prints a table."""
  config_flags.assert_files('tflite', args.tflite)
  threads, delegates = _threads(args.num_threads), _delegates(args.delegate)
  config_flags.assert_numbers(args, 1, 'num_runs', 'warm_up')
  config_flags.assert_numbers(args, 0, 'time_limit', exclusive=True)
  if args.per_op and 'xnnpack' not in delegates:
    raise errors.UsageError(
        'per_op: ops are timed with the delegate xnnpack, received '
        f'--delegate={args.delegate}')
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.benchmark import latency
  from modelgarden_opt.benchmark import per_op
  if args.per_op:
    per_op.check(args.tflite)
  measured = latency.benchmark(
      args.tflite, threads, args.num_runs, delegates=delegates,
      num_warm_up=args.warm_up, time_limit=args.time_limit)
  if args.per_op:
    for record in measured['results']:
      if record['delegate'] == 'xnnpack':  # The one that the profiler has.
        record['per_op'] = per_op.measure(
            record['model'], record['num_threads'], args.num_runs,
            args.time_limit)
  output.write(args, measured)
  print(_table(measured['results'], len(threads) * len(delegates) > 1))
  for record in measured['results']:
    if 'per_op' in record:
      print(_per_op(record))


def _threads(text: str) -> list[int]:
  """Returns the numbers of threads of a flag."""
  parts = [part.strip() for part in text.split(',')]
  wrong = [part for part in parts if not (
      part.isascii() and part.isdigit() and len(part) <= 4 and
      1 <= int(part) <= _MAX_THREADS)]
  if wrong:
    raise errors.UsageError(
        f'num_threads: must lie in 1 to {_MAX_THREADS}, received {wrong[0]!r}')
  return list(dict.fromkeys(map(int, parts)))


def _delegates(text: str) -> list[str]:
  """Returns the delegates of a flag."""
  from modelgarden_opt.benchmark import timed_file  # pylint: disable=g-import-not-at-top
  parts = [part.strip() for part in text.split(',')]
  for part in parts:
    if part not in timed_file.DELEGATES:
      raise errors.UsageError(f'delegate: {part!r} is unknown'
                              f'{errors.nearest(part, timed_file.DELEGATES)}')
  return list(dict.fromkeys(parts))


def _table(results: Sequence[Mapping[str, Any]], several: bool) -> str:
  """Returns the records as a table, and what its columns are.

  Args:
    results: The records.
    several: Whether the files ran in several settings.
  """
  from modelgarden_opt.benchmark import latency  # pylint: disable=g-import-not-at-top
  files = len({r['model'] for r in results}) > 1
  header = ['model', *(['threads', 'delegate'] if several else []),
            *(heading for _, heading in _QUANTILES), 'min ms', 'load ms',
            'peak MiB', *(['to first file'] if files else []),
            *(['to first setting'] if several else []), 'bytes', 'gzip bytes',
            'partitions']
  lines = [output.table(header, [
      _row(record, files, several) for record in results])]
  if files or several:
    lines.append(
        'to first ...: latency ratio, median of paired rounds with its 95 % '
        f'confidence interval; a round is {latency.BLOCK} runs of every row')
  return '\n'.join([
      *lines, 'median, p90, p99 with their 95 % confidence intervals; peak: '
      'memory that loading and running adds to a process'])


def _row(
    record: Mapping[str, Any], files: bool, several: bool) -> list[str]:
  from modelgarden_opt import ratios  # pylint: disable=g-import-not-at-top
  peak = record['peak_memory_bytes']
  return [
      record['model'],
      *([str(record['num_threads']), record['delegate']] if several else []),
      *(_with_interval(record, field) for field, _ in _QUANTILES),
      f"{record['min_ms']:.3f}", f"{record['load_ms']:.1f}",
      '-' if peak is None else f'{peak / 2**20:.1f}',
      *([str(ratios.Ratio.of_record(record))] if files else []),
      *([str(ratios.Ratio.of_record(record['to_first_setting']))]
        if several else []),
      f"{record['size_bytes']:,}", f"{record['gzip_bytes']:,}",
      str(record['num_delegate_partitions'])]


def _with_interval(record: Mapping[str, Any], field: str) -> str:
  """Returns a quantile with its interval: `3.18 [3.17, 3.20]`."""
  low, high = record[f'{field}_low'], record[f'{field}_high']
  ends = [f'{end:.3f}' if end is not None else '?' for end in (low, high)]
  return f'{record[field]:.3f} [{ends[0]}, {ends[1]}]'


def _per_op(record: Mapping[str, Any]) -> str:
  """Returns the times of the ops of a file as text."""
  found = record['per_op']
  lines = [f"\n{record['model']}: {len(found['ops'])} ops, "
           f"{found['milliseconds']:.3f} ms by LiteRT's profiler"]
  for by in ('op', 'kernel', 'layer'):
    sums = found[f'by_{by}']
    rest = len(sums) - _NUM_SUMS
    lines += ['', output.table(
        [by, 'ms', 'share', 'ops'],
        [[r['name'] or 'not known', f"{r['milliseconds']:.3f}",
          f"{r['share']:.1%}", str(r['count'])] for r in sums[:_NUM_SUMS]])]
    lines += [f'and {rest} more'] if rest > 0 else []
  return '\n'.join(lines)
