"""Trains every classification family on digits and fills in the table.

    python -m projects.digits_families.study --output_dir=runs/families

A family whose results are there is not trained again.
"""

import argparse
import json
import os
import shlex

from modelgarden_opt import files
from modelgarden_opt import ratios
from modelgarden_opt.cli import main as cli
from modelgarden_opt.configs import catalog
from modelgarden_opt.report import tables

_CONFIGS = 'configs/image_classification'
_README = os.path.join(os.path.dirname(__file__), 'README.md')
# Name of a variant -> the run and the format of its file.
VARIANTS = {'float32': ('float', 'float32'), 'ptq': ('float', 'int8'),
            'qat': ('qat', 'int8')}


def commands(family: str, out: str) -> list[str]:
  """Returns the commands for one family, as a user would type them."""
  paths = {name: f'{out}/{name}.tflite' for name in VARIANTS}
  return [
      f'train --experiment={family} --model_dir={out}/float '
      f'--config_file={_CONFIGS}/digits_{family}.yaml',
      f'train --experiment={family}_qat --model_dir={out}/qat '
      f'--config_file={_CONFIGS}/digits_{family}_qat.yaml '
      '--params_override=task.quantization.pretrained_original_checkpoint='
      f'{out}/float/best_ckpt',
      *(f'export --model_dir={out}/{run} --format={form} '
        f'--output={paths[name]} --output_json={out}/{name}.json'
        for name, (run, form) in VARIANTS.items()),
      f'evaluate --model_dir={out}/qat --output_json={out}/evaluation.json '
      + ' '.join(f'--tflite={path}' for path in paths.values()),
      f'benchmark --output_json={out}/benchmark.json --num_runs=200 '
      + ' '.join(f'--tflite={path}' for path in paths.values()),
  ]


def measure(family: str, out: str) -> None:
  """Runs the commands of one family, unless its last result is there."""
  if os.path.exists(f'{out}/benchmark.json'):
    return
  for command in commands(family, out):
    print(f'\n$ modelgarden-opt {command}', flush=True)
    code = cli.main(shlex.split(command))
    if code:
      raise SystemExit(code)


def row(family: str, out: str) -> list[str]:
  """Returns a family's line of the table."""
  scores = {r['model']: r['metrics']['top_1_accuracy']
            for r in _read(f'{out}/evaluation.json')['results']}
  timed = {r['model']: r for r in _read(f'{out}/benchmark.json')['results']}
  names = {name: f'{out}/{name}.tflite' for name in VARIANTS}
  return [
      family,
      *(f'{scores[path]:.2%}' for path in names.values()),
      *(str(ratios.Ratio.of_record(timed[names[name]]))
        for name in ('ptq', 'qat')),
      *(f"{timed[names[name]]['size_bytes'] / 1024:,.0f}"
        for name in ('float32', 'qat')),
  ]


def _read(path: str):
  with open(path, encoding='utf-8') as f:
    return json.load(f)


def table(rows: list[list[str]]) -> str:
  """Returns the Markdown table of all families."""
  header = ['family', 'float32 top-1', 'PTQ int8 top-1', 'QAT int8 top-1',
            'PTQ latency / float32', 'QAT latency / float32', 'float32 KiB',
            'QAT KiB']
  return tables.markdown(header, rows)


def main() -> None:
  """Measures what is missing and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--output_dir', default='runs/families')
  parser.add_argument('--family', action='append', choices=catalog.MODELS)
  args = parser.parse_args()
  families = args.family or [
      name for name, model in catalog.MODELS.items()
      if model.task == 'image_classification' and model.blocks]
  rows = []
  for family in families:
    measure(family, f'{args.output_dir}/{family}')
    rows.append(row(family, f'{args.output_dir}/{family}'))
  print(table(rows))
  if not args.family:
    files.replace_section(_README, 'families', table(rows))


if __name__ == '__main__':
  main()
