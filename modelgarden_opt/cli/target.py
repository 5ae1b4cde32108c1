"""`modelgarden-opt target`: what a file costs where it will run."""

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output
from modelgarden_opt.targets import devices

# Field of a record -> header and format of its column; fields that no record
# has are left out.
_COLUMNS = {
    'milliseconds': ('ms', '{:.3f}'),
    'instructions': ('instructions', '{:,}'),
    'arena_bytes': ('arena bytes', '{:,}'),
    'sram_bytes': ('SRAM bytes', '{:,}'),
    'dram_bytes': ('DRAM bytes', '{:,}'),
    'flash_bytes': ('flash bytes', '{:,}'),
    'weight_bytes': ('weight bytes', '{:,}'),
    'num_cpu_ops': ('CPU ops', '{}'),
    'agreement': ('agreement with LiteRT', '{:.4f}'),
}
# Flags -> the largest numbers that make sense.
_MOST = {'num_images': 10_000, 'num_threads': 1024, 'time_limit': 10**9}
# Kinds of ops that are listed below the table.
_NUM_KINDS = 8


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--tflite', action='append', default=[], metavar='PATH',
                      help='file to measure; repeatable (default: all of '
                      '--model_dir)')
  parser.add_argument('--model_dir', default='',
                      help='run directory, whose images are fed to tflm')
  parser.add_argument(
      '--device', action='append', required=True, metavar='NAME',
      help='repeatable; ' + '; '.join(
          f'{", ".join(names)}: {meaning}'
          for meaning, names in devices.meanings().items()))
  parser.add_argument('--arch', choices=('x86_64', 'aarch64'),
                      default='x86_64',
                      help='cpu: x86_64 (Nehalem) or aarch64 (Cortex-A76, '
                      'needs a user space, default: x86_64)')
  parser.add_argument('--user_space', default='', metavar='DIR',
                      help='cpu: what scripts/assemble_user_space.py made')
  parser.add_argument('--num_images', type=int, default=8,
                      help='tflm: images to compare with LiteRT on '
                      '(default: 8)')
  parser.add_argument('--c_array', default='', metavar='DIR',
                      help='tflm: also write the file as a C array, with an '
                      'example')
  parser.add_argument('--num_threads', type=int, default=1,
                      help='android: threads (default: 1)')
  parser.add_argument('--results', action='append', default=[], metavar='PATH',
                      help='android: what benchmark_model wrote there (text, '
                      'CSV or .pb); repeatable')
  parser.add_argument('--time_limit', type=float, default=devices.TIME_LIMIT,
                      help='seconds that a tool may take for a file (default: '
                      f'{devices.TIME_LIMIT:g})')
  output.add_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Measures, and prints a table, notes and the rules that files run into."""
  _check(args)
  if args.output_json or args.c_array or args.model_dir:
    config_flags.import_tensorflow()  # Files are written, images read with it.
  from modelgarden_opt.targets import measuring  # pylint: disable=g-import-not-at-top
  paths = args.tflite or measuring.files_of(args.model_dir)
  if args.c_array and len(paths) > 1:
    raise errors.UsageError(
        f'c_array: takes one file, received {len(paths)}')
  measured = measuring.measure(paths, args.device, devices.Options(
      arch=args.arch, user_space=args.user_space, model_dir=args.model_dir,
      num_images=args.num_images, c_array=args.c_array,
      num_threads=args.num_threads, results=tuple(args.results),
      time_limit=args.time_limit))
  output.write(args, measured)
  print(_text(measured['results']))


def _check(args: argparse.Namespace) -> None:
  """Finds mistakes before TensorFlow is imported, which takes seconds."""
  config_flags.assert_files('tflite', args.tflite)
  config_flags.assert_files('results', args.results)
  for name in args.device:
    devices.find(name)
  if not args.tflite and not args.model_dir:
    raise errors.UsageError('tflite: expected a file, or --model_dir')
  if args.model_dir and not files.is_directory(args.model_dir):
    raise errors.UsageError(
        f'model_dir: there is no directory {args.model_dir!r}')
  for name, most in _MOST.items():
    config_flags.assert_numbers(args, 0, name, most=most, exclusive=True)
  if args.results and (len(args.tflite) != 1 or args.device != ['android']):
    raise errors.UsageError(
        'results: belong to one --tflite file on --device=android')
  if args.user_space and 'cpu' not in args.device:
    raise errors.UsageError('user_space: is for --device=cpu')
  if args.c_array and 'tflm' not in args.device:
    raise errors.UsageError('c_array: is written for --device=tflm')
  output.assert_writable(args)


def _text(records: Sequence[Mapping[str, Any]]) -> str:
  """Returns the table and what belongs to it as text."""
  columns = [name for name in _COLUMNS if any(name in r for r in records)]
  lines = [output.table(
      ['model', 'device', *(_COLUMNS[name][0] for name in columns)],
      [[r['model'], r['device'],
        *(_COLUMNS[name][1].format(r[name]) if name in r else '-'
          for name in columns)] for r in records])]
  for record in records:
    details = _details(record)
    if details:
      lines += ['', f"{record['model']}, {record['device']} (by "
                f"{record['tool']} {record['version']}".rstrip() + '):',
                *(f'  {line}' for line in details)]
  return '\n'.join(lines)


def _details(record: Mapping[str, Any]) -> list[str]:
  """Returns the lines about one record."""
  lines = []
  if record.get('cpu_ops'):
    lines.append('on the CPU: ' + ', '.join(
        f'{count} {op}' for op, count in record['cpu_ops'].items()))
  lines += [f"{r['count']} {r['op']}: {r['reason']} (first: {r['first'][-60:]})"
            for r in record.get('reasons', ())]
  if 'resolver' in record:
    lines.append('ops to register: ' + ', '.join(record['resolver']))
  if 'per_op' in record:
    lines += [f"{r['share']:6.1%} {r['milliseconds']:.3f} ms {r['name']} "
              f"({r['count']})"
              for r in record['per_op']['by_kernel'][:_NUM_KINDS]]
  lines += [f'wrote {path}' for path in record.get('c_array', ())]
  lines += [f'note: {note}' for note in record['notes']]
  lines += [finding['text'] for finding in record['lint']]
  lines += record.get('commands', ())
  return lines
