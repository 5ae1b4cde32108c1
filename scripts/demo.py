"""The main job from end to end on real digits: `make demo`.

Trains MobileNetV2 in float, fine-tunes it with quantization-aware training,
exports float32, PTQ int8 and QAT int8 files, measures those very files and
writes runs/demo/results.json, report.md and report.png. With --from_json the
table and the picture of the README are made again from results that are there.
"""

import argparse
import json
import shlex
import sys
import time

from modelgarden_opt.cli import main as cli

_CONFIGS = 'configs/image_classification'
_RESULTS = 'projects/model_garden_bench/results/demo.json'


def commands(out: str) -> list[str]:
  """Returns the commands of the demo, each as a user would type it."""
  exports = [('float', 'float32', 'float32'), ('float', 'int8', 'ptq_int8'),
             ('qat', 'int8', 'qat_int8')]
  files = {name: f'{out}/{name}.tflite' for _, _, name in exports}
  return [
      f'train --experiment=mobilenet_v2 --model_dir={out}/float '
      f'--config_file={_CONFIGS}/digits_mobilenet_v2.yaml',
      f'train --experiment=mobilenet_v2_qat --model_dir={out}/qat '
      f'--config_file={_CONFIGS}/digits_mobilenet_v2_qat.yaml '
      '--params_override=task.quantization.pretrained_original_checkpoint='
      f'{out}/float/best_ckpt',
      *(f'export --model_dir={out}/{run} --format={form} '
        f'--output={files[name]}' for run, form, name in exports),
      f'evaluate --model_dir={out}/float --tflite={files["float32"]} '
      f'--tflite={files["ptq_int8"]} --output_json={out}/float.json',
      f'evaluate --model_dir={out}/qat --tflite={files["qat_int8"]} '
      f'--output_json={out}/qat.json',
      'benchmark ' + ' '.join(f'--tflite={path}' for path in files.values()) +
      f' --num_runs=300 --output_json={out}/benchmark.json',
      'report ' + ' '.join(f'--variant={n}={p}' for n, p in files.items()) +
      f' --evaluation={out}/float.json --evaluation={out}/qat.json '
      f'--benchmark={out}/benchmark.json --output_dir={out} '
      '--title="MobileNetV2 on digits" --made_by="make demo"',
  ]


def show(path: str, readme: str, picture: str) -> None:
  """Puts the results of a demo into the README.

  Args:
    path: `results.json` of a demo.
    readme: A file with the lines `<!-- results -->` and `<!-- /results -->`;
      the table replaces what stands between them.
    picture: Path of the picture.
  """
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import files
  from modelgarden_opt.report import page
  from modelgarden_opt.report import tables
  with open(path, encoding='utf-8') as f:
    results = json.load(f)
  page.draw(results, picture)
  files.replace_section(
      readme, 'results', tables.markdown(*page.rows(results)))


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--output_dir', default='runs/demo')
  parser.add_argument('--from_json', metavar='JSON', nargs='?', const=_RESULTS,
                      help='train nothing; put these results into the README '
                      '(default: those that the repository keeps)')
  parser.add_argument('--readme', default='README.md')
  parser.add_argument('--picture', default='docs/demo.png')
  args = parser.parse_args()
  if args.from_json:
    show(args.from_json, args.readme, args.picture)
    return 0
  out = args.output_dir
  start = time.monotonic()
  for command in commands(out):
    print(f'\n$ modelgarden-opt {command}', flush=True)
    code = cli.main(shlex.split(command))
    if code:
      return code
  print(f'\n{time.monotonic() - start:.0f} seconds; see {out}/report.md, '
        f'{out}/report.png and {out}/results.json')
  return 0


if __name__ == '__main__':
  sys.exit(main())
