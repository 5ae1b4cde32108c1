"""Keeps what the pipelines of this study measured, one row a measurement.

    python -m projects.fashion_mnist.collect --model_dir=DIRECTORY_OF_PIPELINE
    python -m projects.fashion_mnist.collect --render

The first form adds to `results/<directory>.csv`, the second writes the tables
of README.md.
"""

import argparse
import collections
from collections.abc import Iterator
from collections.abc import Mapping
import csv
import io
import json
import math
import os
import re
from typing import Any

import numpy as np

from modelgarden_opt import files
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.evaluation import paired
from modelgarden_opt.report import tables
from modelgarden_opt.tasks import run_directory
from projects import provenance

_HERE = os.path.dirname(__file__)
RESULTS = os.path.join(_HERE, 'results')
_BASELINE = 'float_float32'
_SEED = re.compile(r'(.+)_seed(\d+)')
FIELDS = (
    *provenance.COLUMNS, 'model', 'stage', 'seed', 'format',
    'steps', 'minutes', 'metric', 'value', 'standard_error', 'n',
    'difference', 'difference_low', 'difference_high', 'agreement',
    'size_bytes', 'sparsity')


def rows(model_dir: str) -> Iterator[dict]:
  """Yields one row for every file that a pipeline made and evaluated."""
  names = sorted(
      name.removesuffix('_evaluation.json')
      for name in os.listdir(os.path.join(model_dir, 'files'))
      if name.endswith('_evaluation.json'))
  common = provenance.columns()
  baseline = _right(model_dir, 'float')[_BASELINE]
  for name in names:
    stage, seed = _SEED.fullmatch(name).groups() if _SEED.fullmatch(
        name) else (name, '')
    keras, *of_files = _read(model_dir, f'{name}_evaluation')['results']
    run_dir, right = keras['model'], _right(model_dir, name)
    params = run_directory.load_params(run_dir)
    for record in of_files:
      variant = os.path.basename(record['model']).removesuffix('.tflite')
      exported = _read(model_dir, variant)
      value, n = record['metrics']['top_1_accuracy'], record['num_examples']
      difference = paired.difference(right[variant], baseline)
      yield {
          **common, 'model': params.task.name, 'stage': stage, 'seed': seed,
          'format': exported['format'], 'steps': params.trainer.train_steps,
          'minutes': round(_minutes(run_dir), 1),
          'metric': 'top_1_accuracy', 'value': round(value, 4),
          'standard_error': round(math.sqrt(value * (1 - value) / n), 5),
          'n': n, 'difference': round(difference.value, 5),
          'difference_low': round(difference.low, 5),
          'difference_high': round(difference.high, 5),
          'agreement': round(record['agreement'], 4),
          'size_bytes': exported['size_bytes'],
          'sparsity': round(exported['sparsity'], 4)}


def _read(model_dir: str, name: str):
  with open(os.path.join(model_dir, 'files', f'{name}.json'),
            encoding='utf-8') as f:
    return json.load(f)


def _right(model_dir: str, name: str) -> dict[str, np.ndarray]:
  """Returns where each file of a training is right, by variant."""
  kept = np.load(os.path.join(model_dir, 'files', f'{name}_predictions.npz'))
  return {os.path.basename(model).removesuffix('.tflite'):
          classes == kept['labels']
          for model, classes in zip(kept['models'], kept['classes'])}


def _minutes(run_dir: str) -> float:
  """Returns the minutes from the first to the last record of a training."""
  with open(os.path.join(run_dir, 'metrics.jsonl'), encoding='utf-8') as f:
    times = [json.loads(line)['time'] for line in f]
  return (max(times) - min(times)) / 60


def write(path: str, measured: list[dict]) -> None:
  """Writes rows as CSV, beside those of other stages that are there."""
  kept = {}
  if os.path.exists(path):
    with open(path, encoding='utf-8') as f:
      kept = {_key(row): row for row in csv.DictReader(f)}
  kept |= {_key(row): row for row in measured}
  text = io.StringIO()
  writer = csv.DictWriter(text, FIELDS, lineterminator='\n')
  writer.writeheader()
  writer.writerows(kept.values())
  files.write_atomically(path, text.getvalue())


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
  return tuple(str(row[name]) for name in ('stage', 'seed', 'format'))


def table(path: str) -> str:
  """Returns the Markdown table of one model: means over the seeds."""
  with open(path, encoding='utf-8') as f:
    groups = collections.defaultdict(list)
    for row in csv.DictReader(f):
      groups[row['stage'], row['format']].append(row)
  lines = []
  for (stage, form), members in groups.items():
    values = [float(row['value']) for row in members]
    differences = [100 * float(row['difference']) for row in members]
    half = np.mean([50 * (float(row['difference_high']) -
                          float(row['difference_low'])) for row in members])
    lines.append([
        stage, form, str(len(members)), f'{np.mean(values):.2%}',
        f'{np.mean(differences):+.2f} ± {half:.2f}',
        f'{min(differences):+.2f} to {max(differences):+.2f}',
        f"{np.mean([float(row['agreement']) for row in members]):.2%}",
        f"{np.mean([float(row['sparsity']) for row in members]):.1%}",
        f"{np.mean([float(row['size_bytes']) for row in members]) / 1024:,.0f}",
        f"{np.mean([float(row['minutes']) for row in members]):.1f}"])
  return tables.markdown(
      ['stage', 'format', 'seeds', 'test top-1', 'points from float',
       'of the seeds', 'agreement with Keras', 'zeros', 'KiB', 'minutes'],
      lines)


def render() -> None:
  """Writes the tables of README.md from the kept results."""
  for name in sorted(os.listdir(RESULTS)):
    files.replace_section(
        os.path.join(_HERE, 'README.md'), name.removesuffix('.csv'),
        table(os.path.join(RESULTS, name)))


def main() -> None:
  """Collects or renders."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model_dir', help='directory of a pipeline')
  parser.add_argument('--name', help='of the table (default: the directory)')
  parser.add_argument('--render', action='store_true')
  args = parser.parse_args()
  if args.model_dir:
    name = args.name or os.path.basename(os.path.normpath(args.model_dir))
    write(os.path.join(RESULTS, f'{name}.csv'), list(rows(args.model_dir)))
  if args.render:
    render()


if __name__ == '__main__':
  main()
