"""Compares this project with the Model Garden's own QAT: `make bench`.

With --from_json the tables are made again from existing results.
"""

import argparse
import json
import os
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from modelgarden_opt import errors
from modelgarden_opt import files
from projects import model_garden_bench
from projects.model_garden_bench import render


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--family', action='append',
                      help='model to compare; repeatable (default: all)')
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--batch_size', type=int, default=16)
  parser.add_argument('--rounds', type=int, default=10,
                      help='training steps of every model')
  parser.add_argument('--builds', type=int, default=5)
  parser.add_argument('--first_steps', type=int, default=3)
  parser.add_argument('--only', choices=model_garden_bench.PARTS,
                      help='keep the rest of --output_json as it is')
  parser.add_argument('--from_json', metavar='JSON', nargs='?',
                      const=render.RESULTS,
                      help='measure nothing; make the tables of these results '
                      '(default: those that the repository keeps)')
  parser.add_argument('--output_json', default=render.RESULTS)
  parser.add_argument('--output_markdown', default='docs/benchmarks.md')
  parser.add_argument('--output_summary', default='README.md')
  return parser


def _read(path: str, parser: argparse.ArgumentParser):
  try:
    return files.read_json(path)
  except errors.UsageError as e:
    parser.error(str(e))


def _measure(args: argparse.Namespace, parser: argparse.ArgumentParser):
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.cli import config_flags
  config_flags.import_tensorflow()
  from projects.model_garden_bench import compare
  from projects.model_garden_bench import variants
  families = args.family or variants.FAMILIES
  for family in families:
    if family not in variants.FAMILIES:
      parser.error(f'--family: {family!r} is none of '
                   f'{", ".join(variants.FAMILIES)}')
  before = None
  if args.only and os.path.exists(args.output_json):
    before = _read(args.output_json, parser)
  if args.only and not (before and {*families} <= {*before['families']}):
    parser.error(f'--only: {args.output_json!r} holds no earlier comparison of '
                 f'{", ".join(families)}; run without --only first')
  result = render.compact(compare.compare(
      families,
      compare.Settings(
          image_size=args.image_size, batch_size=args.batch_size,
          rounds=args.rounds, builds=args.builds,
          first_steps=args.first_steps),
      [args.only] if args.only else model_garden_bench.PARTS, before))
  files.write_atomically(args.output_json, json.dumps(result) + '\n')
  return result


def main() -> None:
  parser = _parser()
  args = parser.parse_args()
  if min(args.rounds, args.builds, args.first_steps, args.image_size,
         args.batch_size) < 1:
    parser.error('sizes and numbers of measurements must be >= 1')
  result = (_read(args.from_json, parser) if args.from_json
            else _measure(args, parser))
  render.write(result, args.output_markdown, args.output_summary)
  print(render.markdown(result))


if __name__ == '__main__':
  main()
