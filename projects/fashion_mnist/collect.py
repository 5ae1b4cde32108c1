"""Keeps what the pipelines of this study measured, one row a measurement.

    python -m projects.fashion_mnist.collect --model_dir=DIRECTORY_OF_PIPELINE
    python -m projects.fashion_mnist.collect --render

The first form adds to `results/<directory>.csv`, the second writes the tables
of README.md, here and of the project.
"""

import argparse
import collections
from collections.abc import Iterator
from collections.abc import Mapping
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
from projects import kept
from projects import provenance

_HERE = os.path.dirname(__file__)
# Seconds between two records of a training that is stopped.
_PAUSE = 300
RESULTS = os.path.join(_HERE, 'results')
# The table of `families.yaml`, which is run once a model.
FAMILIES = 'families'
README = os.path.join(_HERE, 'README.md')
PROJECT_README = os.path.join(_HERE, '..', '..', 'README.md')
_BASELINE = 'float_float32'
_SEED = re.compile(r'(.+)_seed(\d+)')
FIELDS = (
    *provenance.COLUMNS, 'model', 'stage', 'seed', 'format',
    'steps', 'minutes', 'metric', 'value', 'standard_error', 'n',
    'difference', 'difference_low', 'difference_high', 'agreement',
    'size_bytes', 'sparsity', 'gzip_bytes')
# README.md of the project: what a file is, and its results, stage and format.
_SUMMARY = (
    ('float32', 'mobilenet_v2', 'float', 'float32'),
    ('int8, PTQ', 'mobilenet_v2', 'float', 'int8'),
    ('int8, QAT', 'mobilenet_v2', 'qat', 'int8'),
    ('4-bit pointwise kernels, PTQ with AdaRound', 'four_bits',
     'pointwise_adaround', 'int8'),
    ('4-bit pointwise kernels, QAT', 'mobilenet_v2', 'four_bits', 'int8'),
    ('4-bit kernels, QAT', 'mobilenet_v2', 'four_bits_all', 'int8'),
    ('80 % zeros, int8', 'mobilenet_v2', 'zeros80', 'int8'),
    ('90 % zeros, taught by the float model, int8', 'mobilenet_v2', 'taught90',
     'int8'),
    ('half of the FLOPs, int8', 'mobilenet_v2', 'channels', 'int8'),
    ('16 clusters, int8', 'mobilenet_v2', 'clusters16', 'int8'),
    ('50 % zeros, 16 clusters and QAT', 'mobilenet_v2', 'all_three', 'int8'))


def rows(model_dir: str) -> Iterator[dict]:
  """Yields one row for every file that a pipeline made and evaluated."""
  names = sorted(
      name.removesuffix('_evaluation.json')
      for name in os.listdir(os.path.join(model_dir, 'files'))
      if name.endswith('_evaluation.json'))
  common = provenance.columns()
  baseline = right(model_dir, 'float')[_BASELINE]
  for name in names:
    stage, seed = _SEED.fullmatch(name).groups() if _SEED.fullmatch(
        name) else (name, '')
    keras, *of_files = _read(model_dir, f'{name}_evaluation')['results']
    run_dir, correct = keras['model'], right(model_dir, name)
    params = run_directory.load_params(run_dir)
    for record in of_files:
      variant = os.path.basename(record['model']).removesuffix('.tflite')
      exported = _read(model_dir, variant)
      value, n = record['metrics']['top_1_accuracy'], record['num_examples']
      difference = paired.difference(correct[variant], baseline)
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
          'sparsity': round(exported['sparsity'], 4),
          'gzip_bytes': exported['gzip_bytes']}


def _read(model_dir: str, name: str):
  with open(os.path.join(model_dir, 'files', f'{name}.json'),
            encoding='utf-8') as f:
    return json.load(f)


def right(model_dir: str, name: str) -> dict[str, np.ndarray]:
  """Returns where each file of a training is right, by variant."""
  found = np.load(
      os.path.join(model_dir, 'files', f'{name}_predictions.npz'))
  return {os.path.basename(model).removesuffix('.tflite'):
          classes == found['labels']
          for model, classes in zip(found['models'], found['classes'])}


def _minutes(run_dir: str) -> float:
  """Returns the minutes of a training, without those in which it was stopped.

  Records are written every few seconds; a longer gap is a pause.
  """
  with open(os.path.join(run_dir, 'metrics.jsonl'), encoding='utf-8') as f:
    gaps = np.diff([json.loads(line)['time'] for line in f])
  return float(gaps[gaps <= _PAUSE].sum()) / 60


def write(path: str, measured: list[dict]) -> None:
  """Writes rows as CSV, beside those of other stages that are there."""
  kept.replace(path, FIELDS, measured, _key)


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
  return tuple(str(row[name]) for name in ('model', 'stage', 'seed', 'format'))


def _kept(name: str) -> list[dict[str, str]]:
  return kept.read(os.path.join(RESULTS, f'{name}.csv'))


def groups(name: str) -> dict[tuple[str, str], list[dict[str, str]]]:
  """Returns the kept rows of one table by stage and format."""
  found = collections.defaultdict(list)
  for row in _kept(name):
    found[row['stage'], row['format']].append(row)
  return found


def mean(members: list[dict[str, str]], field: str) -> float:
  """Returns the mean of a column."""
  return float(np.mean([float(row[field]) for row in members]))


def from_float(members: list[dict[str, str]]) -> str:
  """Returns the points from float, with half of the interval of one seed."""
  if (members[0]['stage'], members[0]['format']) == ('float', 'float32'):
    return '0'
  half = 50 * (mean(members, 'difference_high') -
               mean(members, 'difference_low'))
  return f"{100 * mean(members, 'difference'):+.2f} ± {half:.2f}"


def table(name: str) -> str:
  """Returns the Markdown table of one CSV file: means over the seeds."""
  lines = []
  for (stage, form), members in groups(name).items():
    differences = [100 * float(row['difference']) for row in members]
    lines.append([
        stage, form, str(len(members)), f"{mean(members, 'value'):.2%}",
        from_float(members),
        f'{min(differences):+.2f} to {max(differences):+.2f}',
        f"{mean(members, 'agreement'):.2%}",
        f"{mean(members, 'sparsity'):.1%}",
        f"{mean(members, 'size_bytes') / 1024:,.0f}",
        f"{mean(members, 'minutes'):.1f}"])
  return tables.markdown(
      ['stage', 'format', 'seeds', 'test top-1', 'points from float',
       'of the seeds', 'agreement with Keras', 'zeros', 'KiB', 'minutes'],
      lines)


def families() -> str:
  """Returns the Markdown table of `families.yaml`: one line a model.

  A model of which only some files are measured yet has no line.
  """
  wanted = ('float', 'float32'), ('float', 'int8'), ('qat', 'int8')
  found = collections.defaultdict(lambda: collections.defaultdict(list))
  for row in _kept(FAMILIES):
    found[row['model'].removesuffix('_qat')][
        row['stage'], row['format']].append(row)
  lines = []
  for model, files_of in found.items():
    if not files_of.keys() >= {*wanted}:
      continue
    exact, ptq, qat = (files_of[key] for key in wanted)
    lines.append([
        model, f"{mean(exact, 'value'):.2%}", from_float(ptq), from_float(qat),
        str(len(qat)), f"{mean(ptq, 'agreement'):.2%}",
        f"{mean(qat, 'agreement'):.2%}",
        f"{mean(exact, 'size_bytes') / 1024:,.0f}",
        f"{mean(ptq, 'size_bytes') / 1024:,.0f}",
        f"{mean(exact, 'minutes'):.1f}", f"{mean(qat, 'minutes'):.1f}"])
  return tables.markdown(
      ['model', 'float, test top-1', 'PTQ, points', 'QAT, points',
       'seeds of QAT', 'PTQ agrees', 'QAT agrees', 'float KiB', 'int8 KiB',
       'minutes of float', 'of QAT'], lines)


def summary() -> str:
  """Returns the table of the project's README.md, of what is measured."""
  lines = []
  for title, name, *key in _SUMMARY:
    members = groups(name).get(tuple(key))
    if members:
      lines.append([
          title, f"{mean(members, 'value'):.2%}", from_float(members),
          str(len(members)), f"{mean(members, 'size_bytes') / 1024:,.0f}",
          f"{mean(members, 'gzip_bytes') / 1024:,.0f}"])
  return tables.markdown(
      ['file', 'test top-1', 'points from float', 'seeds', 'KiB', 'gzip KiB'],
      lines)


def sections() -> dict[str, str]:
  """Returns the tables of README.md here, by the name of their results."""
  names = sorted(
      file.removesuffix('.csv') for file in os.listdir(RESULTS))
  return {name: families() if name == FAMILIES else table(name)
          for name in names}


def render() -> None:
  """Writes the tables of both README.md from the kept results."""
  for name, text in sections().items():
    files.replace_section(README, name, text)
  files.replace_section(PROJECT_README, 'fashion_mnist', summary())


def main() -> None:
  """Collects or renders."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model_dir', help='directory of a pipeline')
  parser.add_argument('--name', help='of the table (default: the directory)')
  parser.add_argument('--render', action='store_true')
  args = parser.parse_args()
  if args.model_dir:
    if not os.path.exists(
        os.path.join(args.model_dir, 'files', 'float_predictions.npz')):
      parser.error(f'--model_dir: {args.model_dir!r} is not the directory of a '
                   'pipeline that has exported and evaluated files')
    name = args.name or os.path.basename(os.path.normpath(args.model_dir))
    write(os.path.join(RESULTS, f'{name}.csv'), list(rows(args.model_dir)))
  if args.render:
    render()


if __name__ == '__main__':
  main()
