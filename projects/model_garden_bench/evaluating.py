"""How fast `evaluate` and `export --formats` are at full size.

    python -m projects.model_garden_bench.evaluating

A model with random weights is a run directory, JPEG pictures are its test data.
Every row is a process of its own, rows take turns. Written to
`results/evaluating.csv`:

- export: the whole command, six formats, verification included.
- one_core, one_worker, two_workers: `evaluate --reference=none` of the int8
  file on one core, with one process and with two. Pictures are decoded
  meanwhile, so one process leaves a second core busy; `one_core` has everything
  on one. `invoke_share` is the part of the time that TFLite computes.
- keras, inference: the Keras model in `evaluate`, and by itself on the same
  batches, which are decoded before.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import processes
from projects import kept
from projects import provenance

RESULTS = os.path.join(os.path.dirname(__file__), 'results', 'evaluating.csv')
FIELDS = (*provenance.COLUMNS, 'family', 'image_size', 'num_images', 'row',
          'round', 'seconds', 'images_per_second', 'invoke_share')
ROWS = ('one_core', 'one_worker', 'two_workers', 'keras', 'inference')
_FORMATS = ('float32', 'float16', 'dynamic_int8', 'int8', 'int4_int8',
            'int16x8')
_TIME_LIMIT = 3600
_BATCH = 64


def prepare(
    family: str, image_size: int, num_images: int, directory: str,
    backbone: str = '') -> str:
  """Makes the data and the run directory; returns the latter.

  Args:
    family: Name of an experiment.
    image_size: Side of the images in pixels.
    num_images: Number of images.
    directory: Where all goes.
    backbone: Another `model_id` of a MobileNet, for small models.
  """
  # pylint: disable=g-import-not-at-top
  from official.core import task_factory
  import tensorflow as tf

  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.configs import overrides
  from modelgarden_opt.data import representative
  from modelgarden_opt.modeling import batch_norm
  from modelgarden_opt.tasks import run_directory
  path = os.path.join(directory, 'pictures.tfrecord')
  _write_pictures(path, image_size, num_images)
  data = {'input_path': path, 'tfds_name': '', 'file_type': 'tfrecord',
          'global_batch_size': _BATCH}
  params = overrides.base(family)
  params.task.name = family
  params.override({'task': {
      'init_checkpoint': None,
      'model': {'input_size': [image_size, image_size, 3], **(
          {'backbone': {'mobilenet': {'model_id': backbone}}}
          if backbone else {})},
      'train_data': data,
      'validation_data': {**data, 'drop_remainder': False}}})
  task = task_factory.get_task(params.task)
  model = task.build_model()
  images = next(iter(representative.calibration_images(task, 1)))
  batch_norm.adopt(model, tf.constant(images))
  run = os.path.join(directory, 'run')
  run_directory.save_params(params, run)
  tf.train.Checkpoint(model=model).save(os.path.join(run, 'ckpt'))
  representative.save(task, run)
  return run


def _write_pictures(path: str, side: int, number: int) -> None:
  """Writes parts of scikit-learn's two photographs as JPEGs."""
  # pylint: disable=g-import-not-at-top
  import numpy as np
  from sklearn import datasets
  import tensorflow as tf

  from modelgarden_opt.data import examples
  photos = datasets.load_sample_images().images
  rng = np.random.default_rng(0)
  with tf.io.TFRecordWriter(path) as writer:
    for index in range(number):
      photo = photos[index % len(photos)]
      top, left = (int(rng.integers(0, size - side))
                   for size in photo.shape[:2])
      content = tf.io.encode_jpeg(
          photo[top:top + side, left:left + side], quality=90).numpy()
      writer.write(examples.classification(
          content, 'jpeg', int(rng.integers(1000))))


def take(row: str, run_dir: str, file: str) -> dict[str, Any]:
  """Measures one of `ROWS` in this process."""
  if row == 'one_core':  # Before TensorFlow counts them.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.data import representative
  from modelgarden_opt.evaluation import evaluate
  from modelgarden_opt.tasks import run_directory
  if row == 'inference':
    run = run_directory.load(run_dir)
    batches = [images for images, _ in representative.labelled_images(
        run.task, 'test')]
    run.trace()
    begin = time.perf_counter()
    for images in batches:
      run.predict(images)
    seconds = time.perf_counter() - begin
    return _timed(sum(map(len, batches)), seconds)
  files = [] if row == 'keras' else [file]
  _, speed = evaluate.timed(run_dir, files, 'test', evaluate.Request(
      reference='none' if files else 'keras',
      num_workers=2 if row == 'two_workers' else 1))
  return _timed(speed.num_images, speed.seconds,
                speed.invoke_seconds / speed.seconds if files else '')


def _timed(number: int, seconds: float, share: Any = '') -> dict[str, Any]:
  return {'num_images': number, 'seconds': round(seconds, 3),
          'images_per_second': round(number / seconds, 2),
          'invoke_share': share and round(share, 4)}


def measure(
    family: str, image_size: int, num_images: int, rounds: int
) -> list[dict[str, Any]]:
  """Returns one record for every row and round."""
  found = []
  with tempfile.TemporaryDirectory() as directory:
    run = prepare(family, image_size, num_images, directory)
    files = os.path.join(directory, 'files')
    begin = time.perf_counter()
    _run('modelgarden_opt.cli.main', 'export', f'--model_dir={run}',
         f'--formats={",".join(_FORMATS)}', f'--output_dir={files}',
         '--no_verify')
    found.append({'row': 'export', 'round': 0,
                  'seconds': round(time.perf_counter() - begin, 2)})
    for turn in range(rounds):
      for row in ROWS if turn % 2 == 0 else reversed(ROWS):
        out = _run(__name__ if __name__ != '__main__' else __spec__.name,
                   f'--take={row}', f'--run={run}',
                   f'--file={os.path.join(files, "int8.tflite")}')
        found.append({'row': row, 'round': turn,
                      **json.loads(out.strip().split('\n')[-1])})
  return [{**provenance.columns(), 'family': family, 'image_size': image_size,
           **record} for record in found]


def _run(module: str, *args: str) -> str:
  finished = processes.run([sys.executable, '-m', module, *args], _TIME_LIMIT)
  if finished.returncode:
    raise errors.Failure(f'{module} {args[0]}: {finished.last_line()}')
  return finished.out


def main() -> None:
  """Measures and keeps the rows, or takes one of them."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--family', default='mobilenet_v2')
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--num_images', type=int, default=2000)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--output', default=RESULTS)
  parser.add_argument('--take', choices=ROWS, help=argparse.SUPPRESS)
  parser.add_argument('--run', help=argparse.SUPPRESS)
  parser.add_argument('--file', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.take:
    print(json.dumps(take(args.take, args.run, args.file)))
    return
  rows = measure(args.family, args.image_size, args.num_images, args.rounds)
  kept.replace(args.output, FIELDS, rows,
               lambda row: (row['family'], str(row['image_size'])))
  for row in rows:
    print(row['row'], row['round'], row['seconds'],
          row.get('images_per_second', ''), row.get('invoke_share', ''))


if __name__ == '__main__':
  main()
