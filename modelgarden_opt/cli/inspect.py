"""`modelgarden-opt inspect`: what a `.tflite` file holds, or what changed."""

import argparse
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('files', nargs='*', metavar='PATH',
                      help='file to inspect; of two, what changed from the '
                      'first to the second')
  parser.add_argument('--tflite', action='append', default=[], metavar='PATH',
                      help='the same as a flag')
  output.add_flag(parser)
  output.add_html_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Prints the kernels and the ops of any file, or how two of them differ."""
  paths = [*args.tflite, *args.files]
  if not 1 <= len(paths) <= 2:
    raise errors.UsageError(
        f'tflite: expected one file, or two to compare, received {len(paths)}')
  config_flags.assert_files('tflite', paths)
  if len(paths) == 2:
    _compare(args, *paths)
  else:
    _inspect(args, paths[0])


def _inspect(args: argparse.Namespace, path: str) -> None:
  import dataclasses  # pylint: disable=g-import-not-at-top

  from modelgarden_opt.evaluation import census  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.evaluation import inspection  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.evaluation import model_file  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.evaluation import sparse_inference  # pylint: disable=g-import-not-at-top
  found = census.take(path)  # It runs before it is read.
  kernels = inspection.kernels(path)
  overall = inspection.sparsity(kernels)
  read = model_file.read(path)
  with model_file.damage_told(path):  # Shapes that the rules do not expect.
    assessed = sparse_inference.assess(read)
  record = {
      'model': path, 'sparsity': overall,
      'kernels': [kernel.record() for kernel in kernels],
      'sparse_inference': assessed, 'signatures': read.signatures,
      'inputs': [tensor.record() for tensor in read.inputs],
      'outputs': [tensor.record() for tensor in read.outputs],
      **dataclasses.asdict(found)}
  output.write(args, record)
  output.write_html(args, lambda pages: pages.inspection(record))
  print(output.table(
      ['kernel', 'op', 'type', 'shape', 'zeros', 'N:M', 'distinct',
       'per channel', 'stored'],
      [[k.name[-60:], k.op, k.dtype, 'x'.join(map(str, k.values.shape)),
        f'{k.sparsity:.2%}', '{}:{}'.format(*k.m_by_n) if k.m_by_n else '-',
        str(k.distinct), str(k.distinct_per_channel),
        'sparse' if k.stored_sparse else 'dense'] for k in kernels]))
  ops = ', '.join(f'{n} {name}' for name, n in sorted(found.ops.items()))
  number = errors.counted(len(kernels), 'kernel')
  print(f'\ninputs: {"; ".join(map(str, read.inputs)) or "none"}\n'
        f'outputs: {"; ".join(map(str, read.outputs)) or "none"}\n'
        f'{found.size_bytes:,} bytes; {number}, {overall:.2%} zeros\n'
        f'ops: {ops}\n'
        f'float ops: {", ".join(sorted(found.float_ops)) or "none"}; delegate '
        f'partitions: {found.num_delegate_partitions}, ops outside: '
        f'{found.num_undelegated_ops}\n{sparse_inference.text(assessed)}')


def _compare(args: argparse.Namespace, before: str, after: str) -> None:
  from modelgarden_opt.evaluation import comparison  # pylint: disable=g-import-not-at-top
  found = comparison.compare(before, after)
  output.write(args, found)
  output.write_html(args, lambda pages: pages.comparison(found))
  changed = [k for k in found['kernels']
             if k['changed'] or not k['same_weights']]
  if changed:
    print(output.table(
        ['kernel', 'changed', 'weights, SQNR dB'],
        [[k['name'].split(';')[0][-60:], _changes(k['changed']),
          _sqnr(k)] for k in changed]) + '\n')
  same = len(found['kernels']) - len(changed)
  number = errors.counted(len(found['kernels']), 'kernel')
  print(f'{len(changed)} of {number} changed, {same} hold the same')
  for name, (a, b) in {**found['ops'], **found['census']}.items():
    print(f'{name.replace("_", " ")}: {a:,} -> {b:,}')


def _changes(changed: dict[str, list[Any]]) -> str:
  for one, which in enumerate(('first', 'second')):
    if 'op' in changed and changed['op'][1 - one] is None:
      held = (_text(changed[field][one], field)
              for field in ('op', 'dtype', 'shape'))
      return f'only in the {which} file: {" ".join(held)}'
  return ', '.join(
      f'{field.replace("_", " ")} {_text(a, field)} -> {_text(b, field)}'
      for field, (a, b) in changed.items()) or '-'


def _text(value: Any, field: str) -> str:
  if isinstance(value, list):
    return (':' if field == 'm_by_n' else 'x').join(map(str, value))
  return f'{value:.4g}' if isinstance(value, float) else str(value)


def _sqnr(kernel: dict[str, Any]) -> str:
  if kernel['same_weights']:
    return 'the same'
  return '-' if kernel['sqnr_db'] is None else f"{kernel['sqnr_db']:.1f}"
