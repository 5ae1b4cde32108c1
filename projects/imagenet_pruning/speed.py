"""Times pruned models: `python -m projects.imagenet_pruning.speed`.

Latency at 224 pixels, dense and with half of the FLOPs, and what masks
and clusters add to a training step. Measurements that are compared
are interleaved in one run. Weights are random.
"""

import argparse
import os
import tempfile

import numpy as np
from official.core import exp_factory
from official.core import task_factory
import tensorflow as tf

from modelgarden_opt import files
from modelgarden_opt import ratios
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.benchmark import latency
from modelgarden_opt.benchmark import training
from modelgarden_opt.configs import pruning as pruning_cfg
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import batch_norm
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.channel_pruning import channel_search
from modelgarden_opt.report import tables

_README = os.path.join(os.path.dirname(__file__), 'README.md')
_MODELS = ('mobilenet_v2', 'resnet50')
_STEPS_OF = 'mobilenet_v2'
# Experiments whose steps are compared, each with the one that it is measured
# against.
_STEPS = {'_pruning': '', '_clustering': '', '_pqat': '_qat', '_cqat': '_qat',
          '_pcqat': '_qat'}


def _build(experiment: str):
  config = exp_factory.get_exp_config(experiment)
  task = task_factory.get_task(config.task)
  return task, task.build_model()


def _images(count: int) -> np.ndarray:
  rng = np.random.default_rng(0)
  return rng.normal(size=[count, 224, 224, 3]).astype(np.float32)


def latencies(name: str, directory: str) -> list[str]:
  """Returns a model's line of the table of latencies."""
  _, model = _build(name)
  dense = factory.neutral(model)
  found = channel_search.prune(
      dense, pruning_cfg.Pruning(granularity='channel'), lambda: ())
  small = factory.neutral(model, found.candidate.filters)
  channel_search.transfer(found.candidate, small)
  images = _images(8)
  paths = {}
  for kind, network in (('dense', dense), ('small', small)):
    batch_norm.adopt(network, images)
    for form in ('float32', 'int8'):
      path = paths[kind, form] = os.path.join(
          directory, f'{name}_{kind}_{form}.tflite')
      files.write_atomically(path, convert.convert(
          network, form, representative=lambda: (
              image[np.newaxis] for image in images)))
  found_ratios = []
  for form in ('float32', 'int8'):
    timed = latency.benchmark(
        [paths['dense', form], paths['small', form]], 1, 100)
    found_ratios.append(str(ratios.Ratio.of_record(timed['results'][1])))
  sizes = [os.path.getsize(paths[kind, 'float32']) / 2**20
           for kind in ('dense', 'small')]
  return [name, f'{found.ratio:.1%}', *(f'{size:.2f}' for size in sizes),
          *found_ratios]


def steps(name: str, rounds: int) -> list[list[str]]:
  """Returns the lines of the table of training steps."""
  rows = []
  # Masks and tables cost the same whatever they hold.
  batch = tf.constant(_images(16)), tf.constant(np.arange(16))
  for reference in dict.fromkeys(_STEPS.values()):
    suffixes = [s for s, against in _STEPS.items() if against == reference]
    task, first = _build(name + reference)
    models = {reference: first}
    for suffix in suffixes:
      _, models[suffix] = _build(name + suffix)
    measured = training.step_ratios(task, models, batch, rounds)
    rows += [[f'{name}{suffix}', f'{name}{reference}', str(measured[suffix])]
             for suffix in suffixes]
  return rows


def main() -> None:
  """Measures, and puts the tables into README.md."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=10)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as directory:
    channels = [latencies(name, directory) for name in _MODELS]
  print(channels, flush=True)
  timed = steps(_STEPS_OF, args.rounds)
  text = '\n'.join([
      tables.markdown(
          ['model', 'FLOPs left', 'dense MiB', 'small MiB',
           'float32 latency / dense', 'int8 latency / dense int8'], channels),
      '', 'Training steps:', '', tables.markdown(
          ['training step of', 'against', 'ratio'], timed, num_text=2),
      '', tables.measured_on(latency.environment())])
  print(text)
  files.replace_section(_README, 'speed', text)


if __name__ == '__main__':
  main()
