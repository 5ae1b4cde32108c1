"""The main job from end to end on real digits: `make demo`.

Runs configs/pipelines/digits_qat.yaml: trains MobileNetV2 in float, fine-tunes
it with quantization-aware training, exports float32, PTQ int8 and QAT int8
files, measures those very files and writes report.html, report.md, report.png
and results.json. With --from_json the table and the picture of the README are
made again from existing results.
"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from modelgarden_opt.cli import main as cli

_PIPELINE = 'configs/pipelines/digits_qat.yaml'
_RESULTS = 'projects/model_garden_bench/results/demo.json'


def show(path: str, readme: str, picture: str) -> None:
  """Puts the results of a demo into the README.

  Args:
    path: `results.json` of a demo.
    readme: A file with the lines `<!-- results -->` and `<!-- /results -->`;
      the table replaces what is between them.
    picture: Path of the picture.
  """
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import files
  from modelgarden_opt.report import page
  from modelgarden_opt.report import tables
  results = files.read_json(path)
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
  start = time.monotonic()
  code = cli.main(['run', f'--config_file={_PIPELINE}',
                   f'--model_dir={args.output_dir}'])
  if not code:
    print(f'\n{time.monotonic() - start:.0f} seconds; open '
          f'{os.path.abspath(os.path.join(args.output_dir, "report.html"))}')
  return code


if __name__ == '__main__':
  sys.exit(main())
