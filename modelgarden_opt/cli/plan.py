"""`modelgarden-opt plan`: what a configuration does with every kernel."""

import argparse
import dataclasses

from modelgarden_opt import errors
from modelgarden_opt import techniques
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  config_flags.add_flags(parser)
  output.add_flag(parser)
  output.add_html_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Builds the model, without training, and prints its kernels."""
  params = config_flags.resolve(args)
  # pylint: disable=g-import-not-at-top
  from official.core import task_factory

  from modelgarden_opt.modeling import factory
  from modelgarden_opt.modeling import kernel_report
  from modelgarden_opt.modeling.state import pretrained
  config = params.task
  made = factory.make_techniques(techniques.blocks_of(config).values())
  of_channels = config.pruning is not None and config.pruning.of_channels
  if not made and not of_channels:
    names = ': or '.join(techniques.TECHNIQUES)
    raise errors.UsageError(
        f'experiment: {args.experiment!r} has no {names}: block, so there is '
        'nothing to plan')
  model = task_factory.get_task(config.without_techniques()).build_model()
  filters = pretrained.filters(config)
  written = {}
  if of_channels:
    pruned = task_factory.get_task(config).prune_channels(model)
    filters |= pruned.candidate.filters
    written['channels'] = [dataclasses.asdict(g) for g in pruned.groups]
    _print_channels(pruned, config.pruning.target)
  if made:
    planned = kernel_report.plan_kernels(model, made, filters)
    written['kernels'] = [
        {**dataclasses.asdict(k), 'zeros': k.zeros,
         'dense_bytes': k.dense_bytes, 'sparse_bytes': k.sparse_bytes}
        for k in planned]
    _print_kernels(planned)
  if 'pruning' in made:
    written['sparse_inference'] = _print_sparse_inference(
        model, techniques.blocks_of(config).values(), filters)
  output.write(args, written)
  output.write_html(args, lambda pages: pages.plan(args.experiment, written))


def _print_sparse_inference(model, blocks, filters):
  """Says what a sparse file will be on Arm; returns it, None if unknown."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.evaluation import sparse_inference
  from modelgarden_opt.export import forecast
  found = forecast.of_sparse_inference(model, blocks, filters)
  if found is not None:
    print(f'as `export --format=float32 --sparse` writes it, '
          f'{sparse_inference.text(found)}')
  return found


def _print_channels(pruned, target: str) -> None:
  print(output.table(
      ['channels of', 'now', 'kept', 'left whole'],
      [[g.path, f'{g.size:,}', f'{g.kept:,}', g.reason]
       for g in pruned.groups]))
  print(f'\n{len(pruned.groups)} groups of channels, '
        f'{sum(g.kept for g in pruned.groups):,} of '
        f'{sum(g.size for g in pruned.groups):,} kept; {target}: '
        f'{pruned.ratio:.1%} of the whole model')


def _print_kernels(planned) -> None:
  print(output.table(
      ['kernel', 'type', 'shape', 'weights', 'zeros', 'clusters', 'bits',
       'left dense', 'bits kept'],
      [[k.path, k.layer_type, 'x'.join(map(str, k.shape)), f'{k.size:,}',
        f'{k.sparsity:.2%}', str(k.clusters or '-'), str(k.num_bits or 32),
        k.reason, k.bits_reason] for k in planned]))
  total = sum(k.size for k in planned)
  mebibytes = ', '.join(
      f'{name} {sum(sizes) / 2**20:.2f} MiB' for name, sizes in (
          ('float32 dense', (k.dense_bytes for k in planned)),
          ('float32 sparse', (k.sparse_bytes for k in planned)),
          ('as integers', (k.size * (k.num_bits or 32) / 8 for k in planned))))
  print(f'\n{errors.counted(len(planned), "kernel")}, {total:,} weights, '
        f'{sum(k.zeros for k in planned) / total:.2%} zeros; expected size of '
        f'the kernels: {mebibytes}')
