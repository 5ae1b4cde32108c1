"""The kinds of commands that are killed, as a user types them."""

from collections.abc import Callable
import dataclasses
import functools
import os
import pathlib

import numpy as np
from PIL import Image

from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.analysis import sensitivity  # noqa: F401
from modelgarden_opt.cli import analyze  # noqa: F401
from modelgarden_opt.cli import data  # noqa: F401
from modelgarden_opt.cli import export  # noqa: F401
from modelgarden_opt.cli import run  # noqa: F401
from modelgarden_opt.cli import search  # noqa: F401
from modelgarden_opt.cli import train  # noqa: F401
from modelgarden_opt.data.importing import importer  # noqa: F401
from modelgarden_opt.evaluation import evaluate  # noqa: F401
from modelgarden_opt.export import exporter  # noqa: F401
from modelgarden_opt.pipeline import executor  # noqa: F401
from modelgarden_opt.training import experiment  # noqa: F401
from tests import tiny  # noqa: F401
from tests.faults import cases

_MASKS = {'begin_step': 4, 'end_step': 12, 'frequency': 4,
          'final_sparsity': 0.5}
_CHANNELS = {'granularity': 'channel', 'keep_ratio': 0.7,
             'batch_norm_steps': 2}
_TABLES = {'number_of_clusters': 8}
_RANGES = {'calibration_steps': 2, 'freeze_ranges_step': 16}
_KEEPING_ZEROS = {**_TABLES, 'preserve_sparsity': True}
# Kind -> experiment, the blocks of its techniques, and the kind of what it
# starts from.
_TRAININGS = {
    'float': ('mnist_cnn', {}, None),
    'qat': ('mnist_cnn_qat', {'quantization': _RANGES}, 'float'),
    'pruning': ('mnist_cnn_pruning', {'pruning': _MASKS}, 'float'),
    'channels': ('mobilenet_v2_pruning', {'pruning': _CHANNELS}, 'float'),
    'clustering': ('mnist_cnn_clustering', {'clustering': _TABLES}, 'float'),
    'pqat': ('mnist_cnn_pqat', {'pruning': {}, 'quantization': _RANGES},
             'pruning'),
    'cqat': ('mnist_cnn_cqat', {
        'clustering': _TABLES, 'quantization': _RANGES}, 'clustering'),
    'pcqat': ('mnist_cnn_pcqat', {
        'pruning': {}, 'clustering': _TABLES, 'quantization': _RANGES},
              'zeros_clustered'),
    'averages': ('mnist_cnn', {}, None),
    'zeros_clustered': ('mnist_cnn_clustering', {
        'clustering': _KEEPING_ZEROS}, 'pruning'),
}
# Channels are removed from a model of several convolutions.
_TINY = {'model': {
    'num_classes': 10, 'input_size': [32, 32, 3], 'dropout_rate': 0.2,
    'backbone': {'mobilenet': {'model_id': 'Tiniest'}}}}
_AVERAGES = {'trainer': {'optimizer_config': {'ema': {'average_decay': 0.9}}}}


@dataclasses.dataclass(frozen=True)
class Command:
  """A command that writes.

  Attributes:
    kind: Key of `ALL`.
    argv: Returns its arguments from the directory of what it starts from and
      the one that it may write to.
    before: Returns the commands that make what it starts from.
  """
  kind: str
  argv: Callable[[str, str], list[str]]
  before: Callable[[str], list[list[str]]] = lambda prepared: []


def _train(values: pathlib.Path, name: str, model_dir: str) -> list[str]:
  return ['train', f'--experiment={name}', f'--config_file={values}',
          f'--model_dir={model_dir}']


def _training(kind: str, root: pathlib.Path) -> Command:
  """A training, after those of what it starts from."""
  tiny_model = _TINY if kind == 'channels' else {}

  def one(kind: str, prepared: str, model_dir: str) -> list[str]:
    name, blocks, source = _TRAININGS[kind]
    blocks = {block: dict(fields) for block, fields in blocks.items()}
    if tiny_model:
      name = name if blocks else 'mobilenet_v2'
    for fields in blocks.values():
      fields['pretrained_original_checkpoint'] = f'{prepared}_{source}'
    path = cases.write(root / f'{kind}.yaml', cases.training(
        str(root / 'data'), **cases.merge(
            {'task': {**blocks, **tiny_model}},
            _AVERAGES if kind == 'averages' else {})))
    return _train(path, name, model_dir)

  def before(prepared: str) -> list[list[str]]:
    made, source = [], _TRAININGS[kind][2]
    while source:
      made.insert(0, one(source, prepared, f'{prepared}_{source}'))
      source = _TRAININGS[source][2]
    return made

  return Command(
      kind, lambda prepared, directory: one(
          kind, prepared, os.path.join(directory, 'model')), before)


def _pipeline(root: pathlib.Path) -> Command:
  path = cases.write(root / 'pipeline.yaml', {
      'model': 'mnist_cnn',
      'stages': ['float', 'prune', 'qat', 'export', 'evaluate'],
      'all': cases.training(str(root / 'data'), trainer={
          'train_steps': 8, 'checkpoint_interval': 4,
          'validation_interval': 4}),
      'float': {'formats': ['float32']},
      'prune': {'formats': [], 'task': {'pruning': {
          **_MASKS, 'begin_step': 0, 'end_step': 4}}},
      'qat': {'task': {'quantization': {'calibration_steps': 2}}}})
  return Command('pipeline', lambda _, directory: [
      'run', f'--config_file={path}',
      f'--model_dir={os.path.join(directory, "all")}'])


def _of_float_run(
    root: pathlib.Path, kind: str, flags: Callable[[str], list[str]]
) -> Command:
  """A command that reads a float run and writes somewhere else."""
  path = cases.write(
      root / 'float.yaml', cases.training(str(root / 'data')))
  return Command(
      kind, lambda prepared, directory: [
          kind, f'--model_dir={prepared}', *flags(directory)],
      lambda prepared: [_train(path, 'mnist_cnn', prepared)])


def _export(root: pathlib.Path) -> Command:
  return _of_float_run(root, 'export', lambda directory: [
      '--format=int8', f'--output={directory}/m.tflite',
      f'--output_json={directory}/m.json'])


def _evaluate(root: pathlib.Path) -> Command:
  return _of_float_run(root, 'evaluate', lambda directory: [
      '--limit=40', f'--output_json={directory}/e.json'])


def _analyze(root: pathlib.Path) -> Command:
  return _of_float_run(root, 'analyze', lambda directory: [
      '--num_images=32', '--calibration_images=32', '--treatment=pruning:0.5',
      '--treatment=quantization:4', f'--output_dir={directory}/found'])


def _search(root: pathlib.Path) -> Command:
  return _of_float_run(root, 'search', lambda directory: [
      '--max_drop=50', '--minimize=size', '--bits=8', '--trials=2',
      f'--output_dir={directory}/found'])


def _build(root: pathlib.Path) -> Command:
  del root
  return Command('data_build', lambda _, directory: [
      'data', 'build', 'digits', f'--output_dir={directory}/digits'])


def _import(root: pathlib.Path) -> Command:
  source = root / 'images'
  if not source.exists():
    rng = np.random.default_rng(0)
    for label in 'ab':
      (source / label).mkdir(parents=True)
      for number in range(30):
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).save(
            source / label / f'{number}.png')
  return Command('data_import', lambda _, directory: [
      'data', 'import', f'--source={source}', '--num_shards=3',
      f'--output_dir={directory}/imported'])


ALL: dict[str, Callable[[pathlib.Path], Command]] = {
    **{kind: functools.partial(_training, kind) for kind in _TRAININGS},
    'pipeline': _pipeline, 'export': _export, 'evaluate': _evaluate,
    'analyze': _analyze, 'search': _search, 'data_build': _build,
    'data_import': _import}


def make(kind: str, root: pathlib.Path) -> Command:
  """Returns the command of a kind; its files are below `root`."""
  return ALL[kind](root)
