"""What 4-bit kernels cost and save at full size: latency, bytes, partitions.

    python -m projects.model_garden_bench.low_bits

Every model is written with the same (random) weights in float32, with 8 bits,
with 4 bits where XNNPACK runs them (`low_bit: pointwise`), and with 4 bits for
all kernels but the first. The files of a model are timed interleaved. Rows go
to `results/low_bits.csv`, the table to docs/benchmarks.md (`--render` only
writes the table).
"""

import argparse
import os
import tempfile
from typing import Any

from modelgarden_opt import files
from modelgarden_opt import ratios
from modelgarden_opt.benchmark import latency
from modelgarden_opt.report import tables
from projects import kept
from projects import provenance

RESULTS = os.path.join(os.path.dirname(__file__), 'results', 'low_bits.csv')
PAGE = 'docs/benchmarks.md'
MARK = 'low_bits'
FAMILIES = ('mobilenet_v2', 'mobilenet_v3_large', 'resnet18', 'resnet50')
FLOAT, INT8, POINTWISE, ALL = VARIANTS = (
    'float32', 'int8', '4 bits, pointwise', '4 bits, all but first')
FIELDS = (*provenance.COLUMNS, 'family', 'image_size', 'variant',
          'threads', 'median_ms', 'to_int8', 'to_int8_low', 'to_int8_high',
          'size_bytes', 'gzip_bytes', 'partitions')


def _write_files(family: str, image_size: int, directory: str) -> list[str]:
  """Writes the files of one model; returns their paths, as `VARIANTS`."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.cli import config_flags
  config_flags.import_tensorflow()
  import tensorflow as tf

  from modelgarden_opt.configs import quantization
  from modelgarden_opt.export import convert
  from modelgarden_opt.modeling import calibration
  from modelgarden_opt.modeling import factory
  from projects.model_garden_bench import variants
  made = variants.Variants(family, image_size)
  made.build('float')
  images = made.batch(8)[0]
  made.adapt_norms(images)
  model, paths = made.models['float'], []
  for variant in VARIANTS:
    if variant == FLOAT:
      content = convert.convert(model, 'float32')
    else:
      block = quantization.Quantization()
      if variant != INT8:
        block.override({
            'change_num_bits': True, 'num_bits_weight': 4,
            'low_bit': 'pointwise' if variant == POINTWISE else 'all'})
      twin = factory.compress(model, block)
      calibration.calibrate(twin, tf.data.Dataset.from_tensors((images, 0)))
      content = convert.convert(twin, 'int8')
    paths.append(os.path.join(directory, f'{len(paths)}.tflite'))
    files.write_atomically(paths[-1], content)
  return paths


def measure(family: str, image_size: int, num_runs: int):
  """Yields one row for every file and number of threads."""
  with tempfile.TemporaryDirectory() as directory:
    paths = _write_files(family, image_size, directory)
    for threads in (1, 2):
      found = latency.benchmark(paths, num_threads=threads, num_runs=num_runs)
      blocks = {variant: record['block_ms'] for variant, record in zip(
          VARIANTS, found['results'])}
      for variant, record in zip(VARIANTS, found['results']):
        ratio = ratios.paired(blocks[variant], blocks[INT8])
        yield {
            **provenance.columns(), 'family': family, 'image_size': image_size,
            'variant': variant, 'threads': threads,
            'median_ms': round(record['median_ms'], 3),
            'to_int8': round(ratio.value, 4),
            'to_int8_low': round(ratio.low, 4),
            'to_int8_high': round(ratio.high, 4),
            'size_bytes': record['size_bytes'],
            'gzip_bytes': record['gzip_bytes'],
            'partitions': record['num_delegate_partitions']}


def write(rows: list[dict[str, Any]]) -> None:
  """Writes rows to `RESULTS`, in place of those of the same models."""
  kept.replace(RESULTS, FIELDS, rows, lambda row: row['family'],
               lambda row: FAMILIES.index(row['family']))


def table() -> str:
  """Returns the kept results as a Markdown table."""
  rows = kept.read(RESULTS)
  sizes = {row['family']: int(row['size_bytes']) for row in rows
           if row['variant'] == INT8}
  lines = []
  for row in rows:
    if row['threads'] != '1':
      continue
    half = (float(row['to_int8_high']) - float(row['to_int8_low'])) / 2
    lines.append((
        row['family'], row['variant'], f'{float(row["median_ms"]):.2f}',
        f'{float(row["to_int8"]):.2f} ± {half:.2f}',
        f'{int(row["size_bytes"]) / 1e6:.2f}',
        f'{int(row["size_bytes"]) / sizes[row["family"]]:.2f}',
        row['partitions']))
  return tables.markdown(
      ('model', 'kernels', 'ms', 'to int8', 'MB', 'to int8', 'partitions'),
      lines)


def main() -> None:
  """Measures all families, or only renders."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--family', action='append', choices=FAMILIES,
                      help='repeatable (default: all)')
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--num_runs', type=int, default=150)
  parser.add_argument('--render', action='store_true')
  args = parser.parse_args()
  if not args.render:
    write([row for family in args.family or FAMILIES
           for row in measure(family, args.image_size, args.num_runs)])
  files.replace_section(PAGE, MARK, table())


if __name__ == '__main__':
  main()
