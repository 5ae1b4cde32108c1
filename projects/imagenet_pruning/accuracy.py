"""Prunes small models on digits and fills in the table of accuracies.

    python -m projects.imagenet_pruning.accuracy --output_dir=runs/pruning

Runs a pipeline for each; what is complete is not run again.
"""

import argparse
import os

from modelgarden_opt import files
from modelgarden_opt.cli import main as cli
from modelgarden_opt.report import tables

_HERE = os.path.dirname(__file__)
# Model -> its pipeline.
PIPELINES = {'mobilenet_v2': 'digits.yaml', 'resnet18': 'digits_zeros.yaml',
             'resnet50': 'digits.yaml'}
# Stage -> what the table calls it.
_VARIANTS = {'dense': 'dense', 'zeros_50': '50 % zeros',
             'zeros_80': '80 % zeros', 'half_flops': 'half the FLOPs'}
_HEADER = ('model', 'variant', 'float32 top-1', 'PTQ int8 top-1',
           'zeros in the file', 'float32, zipped KiB', 'int8, zipped KiB')


def measure(model: str, model_dir: str) -> list[list[str]]:
  """Runs the pipeline of a model and returns its lines of the table."""
  code = cli.main([
      'run', f'--config_file={os.path.join(_HERE, PIPELINES[model])}',
      f'--model={model}', f'--model_dir={model_dir}'])
  if code:
    raise SystemExit(code)
  found = {variant['name']: variant for variant in files.read_json(
      os.path.join(model_dir, 'results.json'))['variants']}
  return [_row(model, name, found[f'{stage}_float32'], found[f'{stage}_int8'])
          for stage, name in _VARIANTS.items() if f'{stage}_int8' in found]


def _row(model: str, name: str, float32, int8) -> list[str]:
  return [model, name,
          *(f"{file['top_1_accuracy']:.2%}" for file in (float32, int8)),
          f"{float32['sparsity']:.2%}",
          *(f"{file['gzip_bytes'] / 1024:,.0f}" for file in (float32, int8))]


def main() -> None:
  """Trains what is missing and writes the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--output_dir', default='runs/pruning')
  parser.add_argument('--model', choices=PIPELINES, action='append')
  args = parser.parse_args()
  table = tables.markdown(_HEADER, [
      row for model in args.model or PIPELINES
      for row in measure(model, os.path.join(args.output_dir, model))],
      num_text=2)
  print(table)
  if not args.model:
    files.replace_section(os.path.join(_HERE, 'README.md'), 'accuracy', table)


if __name__ == '__main__':
  main()
