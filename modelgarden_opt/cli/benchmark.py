"""`modelgarden-opt benchmark`: latency and size, timed interleaved."""

import argparse
from collections.abc import Mapping
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output

# Rows of a table of ops that are printed; all are in the JSON file.
_NUM_SUMS = 12
# More threads than any machine here has cores.
_MAX_THREADS = 1024


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--tflite', action='append', required=True,
                      metavar='PATH', help='file to time; repeatable')
  parser.add_argument('--num_threads', type=int, default=1,
                      help='threads of the interpreter (default: 1)')
  parser.add_argument('--num_runs', type=int, default=100,
                      help='timed runs of every file (default: 100)')
  parser.add_argument('--per_op', action='store_true',
                      help="also time every op with LiteRT's profiler, summed "
                      'by op, kernel and layer')
  output.add_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Times the files, and prints a table."""
  config_flags.assert_files('tflite', args.tflite)
  if args.num_runs < 1:
    raise errors.UsageError(f'num_runs: must be >= 1, received {args.num_runs}')
  if not 1 <= args.num_threads <= _MAX_THREADS:
    raise errors.UsageError(f'num_threads: must lie in 1 to {_MAX_THREADS}, '
                            f'received {args.num_threads}')
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import ratios
  from modelgarden_opt.benchmark import latency
  from modelgarden_opt.benchmark import per_op
  if args.per_op:
    per_op.check(args.tflite)
  measured = latency.benchmark(args.tflite, args.num_threads, args.num_runs)
  if args.per_op:
    for record in measured['results']:
      record['per_op'] = per_op.measure(
          record['model'], args.num_threads, args.num_runs)
  output.write(args, measured)
  found = [ratios.Ratio.of_record(r) for r in measured['results']]
  print(output.table(
      ['model', 'median ms', 'p90 ms', 'p99 ms', 'min ms', 'latency ratio',
       'bytes', 'gzip bytes', 'partitions'],
      [[r['model'], *(f'{r[k]:.3f}' for k in (
          'median_ms', 'p90_ms', 'p99_ms', 'min_ms')), str(ratio),
        f"{r['size_bytes']:,}", f"{r['gzip_bytes']:,}",
        str(r['num_delegate_partitions'])]
       for r, ratio in zip(measured['results'], found)]))
  if len(found) > 1:
    print('latency ratio: to the first file, median of paired rounds with its '
          f'95 % confidence interval; a round is {latency.BLOCK} runs of every '
          'file')
  for record in measured['results'] if args.per_op else ():
    print(_per_op(record))


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
