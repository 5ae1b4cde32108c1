"""`modelgarden-opt list`: what experiments exist."""

import argparse

from modelgarden_opt.cli import output
from modelgarden_opt.compression import topology
from modelgarden_opt.configs import catalog


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument(
      '--task', choices=sorted({m.task for m in catalog.MODELS.values()}),
      help='only the experiments of this task')


def run(args: argparse.Namespace) -> None:
  """Prints every experiment; needs no TensorFlow."""
  rows = []
  for name, experiment in catalog.EXPERIMENTS.items():
    model = catalog.MODELS[experiment.model]
    if args.task in (None, model.task):
      quantized = 'quantization' in experiment.techniques
      rows.append([
          name, model.task, ', '.join(experiment.techniques) or 'float',
          experiment.alias_of or '-',
          ', '.join(topology.BLOCKS[b].twin for b in model.blocks)
          if quantized else '-'])
  header = [
      'experiment', 'task', 'technique', 'alias of', 'quantized blocks']
  print(output.table(header, rows))
