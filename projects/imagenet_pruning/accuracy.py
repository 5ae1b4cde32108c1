"""Prunes small models on digits and fills in the table of accuracies.

    python -m projects.imagenet_pruning.accuracy --output_dir=runs/pruning

A variant whose results are there is not trained again.
"""

import argparse
import json
import os
import shlex

from modelgarden_opt import files
from modelgarden_opt.cli import main as cli
from modelgarden_opt.report import tables

_CONFIGS = 'configs/image_classification'
_README = os.path.join(os.path.dirname(__file__), 'README.md')
# Model -> the run directory in which the comment of its YAML wants it.
MODELS = ('mobilenet_v2', 'resnet18', 'resnet50')
# Variant -> suffix of the YAML file and override; None trains the dense model.
VARIANTS = {
    'dense': ('', None),
    '50 % zeros': ('_pruning', 'task.pruning.final_sparsity=0.5'),
    '80 % zeros': ('_pruning', 'task.pruning.final_sparsity=0.8'),
    'half the FLOPs': ('_channel_pruning', 'task.pruning.keep_ratio=0.5'),
}


def _directory(out: str, model: str, variant: str) -> str:
  return os.path.join(out, model, variant.replace(' % ', '_').replace(' ', '_'))


def commands(model: str, variant: str, out: str) -> list[str]:
  """Returns the commands for one variant, as a user would type them."""
  suffix, override = VARIANTS[variant]
  directory = _directory(out, model, variant)
  dense = _directory(out, model, 'dense')
  train = (f'train --experiment={model}{suffix and "_pruning"} '
           f'--config_file={_CONFIGS}/digits_{model}{suffix}.yaml '
           f'--model_dir={directory}')
  if override:
    train += (f' --params_override={override},task.pruning.'
              f'pretrained_original_checkpoint={dense}/best_ckpt')
  names = [f'{directory}/{form}.tflite' for form in ('float32', 'int8')]
  return [
      train,
      *(f'export --model_dir={directory} --format={form} --output={name} '
        f'--output_json={directory}/{form}.json'
        for form, name in zip(('float32', 'int8'), names)),
      f'evaluate --model_dir={directory} '
      f'--output_json={directory}/evaluation.json '
      + ' '.join(f'--tflite={name}' for name in names),
  ]


def measure(model: str, variant: str, out: str) -> None:
  """Runs the commands of one variant, unless its last result is there."""
  if os.path.exists(f'{_directory(out, model, variant)}/evaluation.json'):
    return
  for command in commands(model, variant, out):
    print(f'\n$ modelgarden-opt {command}', flush=True)
    code = cli.main(shlex.split(command))
    if code:
      raise SystemExit(code)


def row(model: str, variant: str, out: str) -> list[str]:
  """Returns a variant's line of the table."""
  directory = _directory(out, model, variant)
  scores = {r['model']: r['metrics']['top_1_accuracy']
            for r in _read(f'{directory}/evaluation.json')['results']}
  files_of = {form: _read(f'{directory}/{form}.json')
              for form in ('float32', 'int8')}
  return [
      model, variant,
      *(f"{scores[found['model']]:.2%}" for found in files_of.values()),
      f"{files_of['float32']['sparsity']:.2%}",
      *(f"{found['gzip_bytes'] / 1024:,.0f}" for found in files_of.values()),
  ]


def _read(path: str):
  with open(path, encoding='utf-8') as f:
    return json.load(f)


def main() -> None:
  """Trains what is missing and writes the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--output_dir', default='runs/pruning')
  parser.add_argument('--model', choices=MODELS, action='append')
  args = parser.parse_args()
  header = ['model', 'variant', 'float32 top-1', 'PTQ int8 top-1',
            'zeros in the file', 'float32, zipped KiB', 'int8, zipped KiB']
  rows = []
  for model in args.model or MODELS:
    for variant, (suffix, _) in VARIANTS.items():
      if os.path.exists(f'{_CONFIGS}/digits_{model}{suffix}.yaml'):
        measure(model, variant, args.output_dir)
        rows.append(row(model, variant, args.output_dir))
        print(' | '.join(rows[-1]), flush=True)
  if not args.model:
    files.replace_section(
        _README, 'accuracy', tables.markdown(header, rows, num_text=2))


if __name__ == '__main__':
  main()
