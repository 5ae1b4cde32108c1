"""`modelgarden-opt inspect`: what a `.tflite` file holds."""

import argparse

from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--tflite', required=True, metavar='PATH',
                      help='file to inspect')
  output.add_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Prints the kernels and the ops of any file."""
  config_flags.assert_files('tflite', [args.tflite])
  config_flags.import_tensorflow()
  import dataclasses  # pylint: disable=g-import-not-at-top

  from modelgarden_opt.evaluation import census  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.evaluation import inspection  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.evaluation import model_file  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.evaluation import sparse_inference  # pylint: disable=g-import-not-at-top
  kernels = inspection.kernels(args.tflite)
  found = census.take(args.tflite)
  overall = inspection.sparsity(kernels)
  assessed = sparse_inference.assess(model_file.read(args.tflite))
  output.write(args, {
      'model': args.tflite, 'sparsity': overall,
      'kernels': [kernel.record() for kernel in kernels],
      'sparse_inference': assessed, **dataclasses.asdict(found)})
  print(output.table(
      ['kernel', 'op', 'type', 'shape', 'zeros', 'N:M', 'distinct',
       'per channel', 'stored'],
      [[k.name[-60:], k.op, k.dtype, 'x'.join(map(str, k.values.shape)),
        f'{k.sparsity:.2%}', '{}:{}'.format(*k.m_by_n) if k.m_by_n else '-',
        str(k.distinct), str(k.distinct_per_channel),
        'sparse' if k.stored_sparse else 'dense'] for k in kernels]))
  ops = ', '.join(f'{n} {name}' for name, n in sorted(found.ops.items()))
  print(f'\n{found.size_bytes:,} bytes; {len(kernels)} kernels, '
        f'{overall:.2%} zeros\nops: {ops}\n'
        f'float ops: {", ".join(sorted(found.float_ops)) or "none"}; delegate '
        f'partitions: {found.num_delegate_partitions}, ops outside: '
        f'{found.num_undelegated_ops}\n{sparse_inference.text(assessed)}')
