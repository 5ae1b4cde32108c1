"""Times DeepLabV3: `python -m projects.pascal_segmentation.speed`.

Build and training step at 256 pixels, conversion and latency at 512 pixels;
measurements that are compared are interleaved in one run. Weights are random.
"""

import argparse
import os
import tempfile
import time

import numpy as np
from official.core import exp_factory
from official.core import task_factory
import tensorflow as tf

from modelgarden_opt import files
from modelgarden_opt import ratios
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.benchmark import latency
from modelgarden_opt.benchmark import training
from modelgarden_opt.configs import quantization
from modelgarden_opt.evaluation import census
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import batch_norm
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory
from modelgarden_opt.report import tables

_README = os.path.join(os.path.dirname(__file__), 'README.md')
_STEP_SIZE, _FILE_SIZE, _BATCH = 256, 512, 4


def _task(experiment: str, size: int):
  """Returns the task of an experiment at another image size."""
  config = exp_factory.get_exp_config(experiment)
  config.task.model.input_size = [size, size, 3]
  config.task.model.norm_activation.use_sync_bn = False
  return task_factory.get_task(config.task)


def steps(
    experiment: str, rounds: int, builds: int) -> dict[str, ratios.Ratio]:
  """Returns the ratios QAT / float of building and of a training step."""
  task, models = _task(experiment, _STEP_SIZE), {}

  def build():
    models['float'] = task.build_model()

  def quantize():
    models['QAT'] = factory.compress(
        models['float'], quantization.Quantization())

  built = {'float': [], 'QAT': []}
  for turn in range(1 + builds):
    # Never backwards: the quantized model is made of the float model.
    seconds = training.in_turn({'float': build, 'QAT': quantize}, 1)
    for name, values in seconds.items() if turn else ():  # 0 warms up caches.
      built[name] += values
  rng = np.random.default_rng(0)
  shape = [_BATCH, _STEP_SIZE, _STEP_SIZE]
  images = tf.constant(rng.normal(size=[*shape, 3]).astype(np.float32))
  labels = {'masks': tf.constant(rng.integers(
      0, 21, [*shape, 1]).astype(np.float32))}
  return {
      'build': ratios.paired(built['QAT'], built['float']),
      'step': training.step_ratios(
          task, models, (images, labels), rounds)['QAT']}


def exported(experiment: str, directory: str) -> dict[str, dict]:
  """Returns conversion time, census and latency of three files."""
  floats = _task(experiment, _FILE_SIZE).build_model()
  quantized = factory.compress(floats, quantization.Quantization())
  rng = np.random.default_rng(0)
  images = rng.normal(
      size=[4, _FILE_SIZE, _FILE_SIZE, 3]).astype(np.float32)
  for model in (floats, quantized):
    batch_norm.adopt(model, images)
  calibration.calibrate(
      quantized, tf.data.Dataset.from_tensors((images, 0)))
  found = {}
  for name, model, form in (('float32', floats, 'float32'),
                            ('PTQ int8', floats, 'int8'),
                            ('QAT int8', quantized, 'int8')):
    start = time.perf_counter()
    content = convert.convert(
        model, form, representative=lambda: (i[np.newaxis] for i in images))
    seconds = time.perf_counter() - start
    path = os.path.join(directory, f'{name.split()[0]}.tflite')
    with open(path, 'wb') as f:
      f.write(content)
    found[name] = {'path': path, 'convert_s': seconds,
                   **vars(census.take(path))}
  timed = latency.benchmark([f['path'] for f in found.values()], 1, 40)
  for record, result in zip(found.values(), timed['results']):
    record.update(result)
  return found


def main() -> None:
  """Measures one experiment and puts the tables into README.md."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--experiment', default='deeplabv3_mobilenet_v2')
  parser.add_argument('--rounds', type=int, default=10)
  parser.add_argument('--builds', type=int, default=5)
  args = parser.parse_args()
  measured = steps(args.experiment, args.rounds, args.builds)
  with tempfile.TemporaryDirectory() as directory:
    found = exported(args.experiment, directory)
  table = tables.markdown(
      ['file', 'conversion s', 'MiB', 'partitions', 'float ops', 'median ms',
       '/ float32'],
      [[name, f"{f['convert_s']:.1f}", f"{f['size_bytes'] / 2**20:.2f}",
        str(f['num_delegate_partitions']), str(sum(f['float_ops'].values())),
        f"{f['median_ms']:.1f}", str(ratios.Ratio.of_record(f))]
       for name, f in found.items()])
  text = (
      f'`{args.experiment}`: building QAT / float {measured["build"]}, '
      f'training step at {_STEP_SIZE} pixels, batch {_BATCH}, '
      f'QAT / float {measured["step"]}. Files at {_FILE_SIZE} pixels, one '
      f'thread:\n\n{table}\n\n{tables.measured_on(latency.environment())}')
  print(text)
  files.replace_section(_README, 'speed', text)


if __name__ == '__main__':
  main()
