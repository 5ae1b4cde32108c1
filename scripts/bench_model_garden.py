"""Compares this project with the Model Garden's own QAT: `make bench`."""

import argparse
import os
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from modelgarden_opt import files
from projects.model_garden_bench import compare
from projects.model_garden_bench import variants


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--family', action='append', choices=variants.FAMILIES)
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--batch_size', type=int, default=16)
  parser.add_argument('--rounds', type=int, default=10)
  parser.add_argument('--only', choices=compare.PARTS,
                      help='keep the rest of --output_json as it is')
  parser.add_argument('--output_json', default='runs/bench.json')
  parser.add_argument('--output_markdown', default='docs/benchmarks.md')
  parser.add_argument('--output_summary', default='README.md')
  args = parser.parse_args()
  families = args.family or variants.FAMILIES
  before = files.read_json(args.output_json) if args.only else None
  if args.only and not (before and {*families} <= {*before['families']}):
    parser.error(f'--only: {args.output_json!r} holds no earlier comparison of '
                 f'{", ".join(families)}; run without --only first')
  result = compare.compare(
      families, args.image_size, args.batch_size, args.rounds,
      [args.only] if args.only else compare.PARTS, before)
  compare.write(
      result, args.output_json, args.output_markdown, args.output_summary)
  print(compare.markdown(result))


if __name__ == '__main__':
  main()
