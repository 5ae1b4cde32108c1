"""Trains every classification family on digits and fills in the table.

    python -m projects.digits_families.study --output_dir=runs/families

Runs configs/pipelines/digits_qat.yaml for each; what is complete is not run
again.
"""

import argparse
import os

from modelgarden_opt import files
from modelgarden_opt import ratios
from modelgarden_opt.cli import main as cli
from modelgarden_opt.configs import catalog
from modelgarden_opt.report import tables

_PIPELINE = 'configs/pipelines/digits_qat.yaml'
_README = os.path.join(os.path.dirname(__file__), 'README.md')
_HEADER = ('family', 'float32 top-1', 'PTQ int8 top-1', 'QAT int8 top-1',
           'PTQ latency / float32', 'QAT latency / float32', 'float32 KiB',
           'QAT KiB')


def measure(family: str, model_dir: str) -> list[str]:
  """Runs the pipeline for a family and returns its line of the table."""
  code = cli.main(['run', f'--config_file={_PIPELINE}', f'--model={family}',
                   f'--model_dir={model_dir}'])
  if code:
    raise SystemExit(code)
  variants = files.read_json(f'{model_dir}/results.json')['variants']
  float32, ptq, qat = variants
  return [
      family,
      *(f"{variant['top_1_accuracy']:.2%}" for variant in variants),
      *(str(ratios.Ratio.of_record(variant)) for variant in (ptq, qat)),
      *(f"{variant['size_bytes'] / 1024:,.0f}" for variant in (float32, qat))]


def main() -> None:
  """Measures what is missing and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--output_dir', default='runs/families')
  parser.add_argument('--family', action='append', choices=catalog.MODELS)
  args = parser.parse_args()
  families = args.family or [
      name for name, model in catalog.MODELS.items()
      if model.task == 'image_classification' and model.blocks]
  table = tables.markdown(_HEADER, [
      measure(family, f'{args.output_dir}/{family}') for family in families])
  print(table)
  if not args.family:
    files.replace_section(_README, 'families', table)


if __name__ == '__main__':
  main()
