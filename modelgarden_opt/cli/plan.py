"""`modelgarden-opt plan`: what a configuration does with every kernel."""

import argparse
import dataclasses

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  config_flags.add_flags(parser)
  output.add_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Builds the model, without data or training, and prints its kernels."""
  params = config_flags.resolve(args)
  # pylint: disable=g-import-not-at-top
  from official.core import task_factory

  from modelgarden_opt.modeling import factory
  from modelgarden_opt.modeling import planning
  task = params.task
  techniques = factory.techniques(task.quantization, task.pruning)
  if not techniques:
    raise errors.UsageError(
        f'experiment: {args.experiment!r} has no quantization: or pruning: '
        'block, so there is nothing to plan')
  floats = task_factory.get_task(task.replace(quantization=None, pruning=None))
  planned = planning.plan_kernels(floats.build_model(), techniques)
  output.write(args, {'kernels': [
      {**dataclasses.asdict(k), 'zeros': k.zeros,
       'dense_bytes': k.dense_bytes, 'sparse_bytes': k.sparse_bytes}
      for k in planned]})
  print(output.table(
      ['kernel', 'type', 'shape', 'weights', 'zeros', 'bits', 'left dense'],
      [[k.path, k.layer_type, 'x'.join(map(str, k.shape)), f'{k.size:,}',
        f'{k.sparsity:.2%}', str(k.num_bits or 32), k.reason]
       for k in planned]))
  total = sum(k.size for k in planned)
  mebibytes = ', '.join(
      f'{name} {sum(sizes) / 2**20:.2f} MiB' for name, sizes in (
          ('float32 dense', (k.dense_bytes for k in planned)),
          ('float32 sparse', (k.sparse_bytes for k in planned)),
          ('as integers', (k.size * (k.num_bits or 32) / 8 for k in planned))))
  print(f'\n{len(planned)} kernels, {total:,} weights, '
        f'{sum(k.zeros for k in planned) / total:.2%} zeros; expected size of '
        f'the kernels: {mebibytes}')
