"""Keeps how much more accurate a file of ours is than the peer's.

    python -m projects.fashion_mnist.peers --model_dir=PIPELINE \\
        --stage=zeros90_seed2 --peer_dir=DIR
    python -m projects.fashion_mnist.peers --render

DIR is what `projects.fashion_mnist.peer` wrote for the run of that stage: both
started from the same float weights and took the same steps. The first form adds
to `peers.csv`, the second writes the table of README.md.
"""

import argparse
from collections.abc import Iterator
import os
from typing import Any

import numpy as np

from modelgarden_opt import files
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.evaluation import paired
from modelgarden_opt.report import tables
from projects import kept
from projects import provenance
from projects.fashion_mnist import collect

_HERE = os.path.dirname(__file__)
RESULTS = os.path.join(_HERE, 'peers.csv')
FIELDS = (*provenance.COLUMNS, 'stage', 'format', 'ours', 'theirs', 'n',
          'difference', 'difference_low', 'difference_high')


def rows(model_dir: str, stage: str, peer_dir: str) -> Iterator[dict[str, Any]]:
  """Yields one row for every format that both have.

  Args:
    model_dir: Directory of our pipeline.
    stage: Name of its training, with the seed.
    peer_dir: Output directory of the peer.
  """
  ours = collect.right(model_dir, stage)
  for record in files.read_json(
      os.path.join(peer_dir, 'evaluation.json'))['results']:
    form = os.path.basename(record['model']).removesuffix('.tflite')
    # What QAT trained is of int8.
    form = {'qat': 'int8'}.get(form, form)
    mine = ours.get(f'{stage}_{form}')
    if mine is None:
      continue
    theirs = np.unpackbits(np.frombuffer(
        bytes.fromhex(record['right']), np.uint8), count=len(mine)).astype(bool)
    found = paired.difference(mine, theirs)
    yield {**provenance.columns(), 'stage': stage, 'format': form,
           'ours': round(float(mine.mean()), 4),
           'theirs': round(float(theirs.mean()), 4), 'n': len(mine),
           'difference': round(found.value, 5),
           'difference_low': round(found.low, 5),
           'difference_high': round(found.high, 5)}


def table() -> str:
  """Returns the Markdown table of the kept rows."""
  return tables.markdown(
      ('run', 'format', 'this project', 'peer', 'points more',
       '95 % interval'),
      [(row['stage'], row['format'], f"{float(row['ours']):.2%}",
        f"{float(row['theirs']):.2%}", f"{100 * float(row['difference']):+.2f}",
        f"{100 * float(row['difference_low']):+.2f} to "
        f"{100 * float(row['difference_high']):+.2f}")
       for row in kept.read(RESULTS)])


def main() -> None:
  """Collects or renders."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model_dir', help='directory of a pipeline')
  parser.add_argument('--stage', help='a training of it, with its seed')
  parser.add_argument('--peer_dir', help='output of the peer')
  parser.add_argument('--render', action='store_true')
  args = parser.parse_args()
  if args.model_dir:
    kept.replace(
        RESULTS, FIELDS, list(rows(args.model_dir, args.stage, args.peer_dir)),
        lambda row: (row['stage'], row['format']))
  if args.render:
    files.replace_section(
        os.path.join(_HERE, 'README.md'), 'peers', table())


if __name__ == '__main__':
  main()
