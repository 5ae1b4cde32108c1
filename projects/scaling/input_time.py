"""Where the processor time of the input of Fashion-MNIST goes.

    python -m projects.scaling.input_time

Each line adds one part to the pipeline of the line before. Time is that of the
processor, one thread and nothing prefetched, in microseconds an image, the
median of the rounds.
"""

import argparse
from collections.abc import Iterator
import statistics
import time

from official.vision.dataloaders import classification_input
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.data import inputs
from modelgarden_opt.report import tables
from projects.scaling import cases

_NAME = 'Fashion-MNIST, 56 pixels'
# Batches before the timed ones.
_WARM_UP = 4


def _parts(config) -> Iterator[tuple[str, tf.data.Dataset]]:
  """Yields what is read after each part of the pipeline, by its name."""
  params = inputs.resolve(config.task.train_data)
  records = tf.data.TFRecordDataset(inputs.files(params)).repeat()
  records = records.shuffle(params.shuffle_buffer_size, seed=params.seed)
  yield 'reading and shuffling', _batches(records, params)
  decoder = classification_input.Decoder(
      image_field_key=params.image_field_key,
      label_field_key=params.label_field_key)

  def encoded(record):
    return decoder.decode(record)[params.image_field_key]

  yield 'tf.Example', _batches(records.map(encoded), params)
  yield 'PNG', _batches(records.map(lambda record: tf.io.decode_image(
      encoded(record), channels=3, expand_animations=False)), params)
  parser = classification_input.Parser(
      output_size=config.task.model.input_size[:2],
      num_classes=config.task.model.num_classes,
      aug_rand_hflip=params.aug_rand_hflip, aug_crop=params.aug_crop,
      decode_jpeg_only=params.decode_jpeg_only, dtype=params.dtype)
  parse = parser.parse_fn(is_training=True)
  parsed = _batches(
      records.map(lambda record: parse(decoder.decode(record))), params)
  yield 'resizing, flips, normalization', parsed
  yield 'random_affine', inputs.augment(
      parsed, params.random_affine, params.seed)


def _in_one_thread(data: tf.data.Dataset) -> tf.data.Dataset:
  options = tf.data.Options()
  options.threading.private_threadpool_size = 1
  options.autotune.enabled = False
  return data.with_options(options)


def _batches(data: tf.data.Dataset, params) -> tf.data.Dataset:
  return data.batch(params.global_batch_size, drop_remainder=True)


def measure(config, rounds: int, count: int) -> dict[str, float]:
  """Returns the microseconds an image of every part.

  Args:
    config: An experiment whose training data are shifted and scaled PNGs.
    rounds: How often each pipeline is timed.
    count: Batches of each timing.
  """
  pipelines = {name: iter(_in_one_thread(data))
               for name, data in _parts(config)}
  seconds = {name: [] for name in pipelines}
  for batches in pipelines.values():
    for _ in range(_WARM_UP):
      next(batches)
  for _ in range(rounds):
    for name, batches in pipelines.items():
      start = time.process_time()
      for _ in range(count):
        next(batches)
      seconds[name].append(time.process_time() - start)
  images = count * config.task.train_data.global_batch_size
  found, before = {}, 0.0
  for name, times in seconds.items():
    total = 1e6 * statistics.median(times) / images
    found[name], before = total - before, total
  return found


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rounds', type=int, default=11)
  parser.add_argument('--batches', type=int, default=20)
  args = parser.parse_args()
  config = next(config for name, config in cases.configurations('', 1, 224)
                if name == _NAME)
  try:
    found = measure(config, args.rounds, args.batches)
  except errors.UsageError as e:  # Fashion-MNIST is not here.
    parser.error(str(e))
  print(tables.markdown(
      ('part', 'µs an image'),
      [*((name, f'{value:.0f}') for name, value in found.items()),
       ('all', f'{sum(found.values()):.0f}')]))


if __name__ == '__main__':
  main()
