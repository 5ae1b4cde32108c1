"""What every technique saves on every target: one model, one table.

    python -m projects.targets.techniques

A model of the catalog with random weights is compressed by each technique
alone and in combination, written, and given to every device of `modelgarden-opt
target` that is measured without hardware. Rows go to `results/techniques.csv`,
the table to README.md of this directory (`--render` only writes the table).
"""

import argparse
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import gzip
import os
import tempfile
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.report import tables
from projects import kept
from projects import provenance

_HERE = os.path.dirname(__file__)
RESULTS = os.path.join(_HERE, 'results', 'techniques.csv')
PAGE = os.path.join(_HERE, 'README.md')
MARK = 'techniques'
MODEL, IMAGE_SIZE = 'mobilenet_v2', 224
FIELDS = (*provenance.COLUMNS, 'model', 'image_size', 'variant', 'size_bytes',
          'gzip_bytes', 'device', 'tool', 'version', 'instructions',
          'milliseconds', 'weight_bytes', 'sram_bytes', 'arena_bytes',
          'num_cpu_ops', 'refused')


@dataclasses.dataclass(frozen=True)
class Variant:
  """A file.

  Attributes:
    blocks: Arguments of `modelgarden_opt.compress`.
    before: Those of a call before that one.
    sparse: Whether zeros are stored sparsely, in a model with symmetric
      padding, which XNNPACK's sparse inference needs.
    runtime: `--runtime` of `export`.
  """
  blocks: Mapping[str, Mapping[str, Any]]
  before: Mapping[str, Mapping[str, Any]] = dataclasses.field(
      default_factory=dict)
  sparse: bool = False
  runtime: str = 'xnnpack'


_ZEROS = {'final_sparsity': 0.8, 'end_step': 0}
_CLUSTERS = {'number_of_clusters': 16}
_FOUR_BITS = {'change_num_bits': True, 'num_bits_weight': 4}
_HALF = {'granularity': 'channel', 'target': 'flops', 'keep_ratio': 0.5}
VARIANTS = {
    'float32': Variant({}),
    'float32, 80 % zeros': Variant(
        {'pruning': {**_ZEROS, 'policy': 'pointwise'}}, sparse=True),
    'int8': Variant({'quantization': {}}),
    'int8, 80 % zeros': Variant({'quantization': {}, 'pruning': _ZEROS}),
    'int8, 2:4': Variant({
        'quantization': {},
        'pruning': {'sparsity_m_by_n': [2, 4], 'end_step': 0}}),
    'int8, half of the FLOPs': Variant(
        {'quantization': {}, 'pruning': _HALF}),
    'int8, 16 clusters': Variant({'quantization': {}, 'clustering': _CLUSTERS}),
    'int8, 80 % zeros, 16 clusters': Variant({
        'quantization': {}, 'pruning': {'pruning_schedule': 'Preserve'},
        'clustering': _CLUSTERS}, before={'pruning': _ZEROS}),
    '4/8 bits': Variant({'quantization': _FOUR_BITS}),
    '4/8 bits, reference': Variant(
        {'quantization': _FOUR_BITS}, runtime='reference'),
}
# Column of the table -> device, instruction set, field and unit of a value.
_COLUMNS = {
    'Cortex-A76, million instructions': ('cpu aarch64', 'instructions', 1e6),
    'Nehalem, million instructions': ('cpu x86_64', 'instructions', 1e6),
    'Ethos-U55-128, ms': ('ethos-u55-128', 'milliseconds', 1),
    'its weights, KiB': ('ethos-u55-128', 'weight_bytes', 1024),
    'its CPU ops': ('ethos-u55-128', 'num_cpu_ops', 1),
    'Ethos-U85-256, ms': ('ethos-u85-256', 'milliseconds', 1),
    'TFLM, arena KiB': ('tflm', 'arena_bytes', 1024),
    'Edge TPU, CPU ops': ('edgetpu', 'num_cpu_ops', 1),
}
DEVICES = tuple(dict.fromkeys(device for device, _, _ in _COLUMNS.values()))


def write_file(path: str, image_size: int, variant: Variant) -> None:
  """Writes a file."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.cli import config_flags
  config_flags.import_tensorflow()
  import numpy as np
  from official.core import exp_factory
  from official.core import task_factory

  import modelgarden_opt
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.export import convert
  from modelgarden_opt.modeling import batch_norm
  images = np.random.default_rng(0).normal(
      size=(8, image_size, image_size, 3)).astype(np.float32)
  config = exp_factory.get_exp_config(MODEL).task
  config.override({'model': {
      'input_size': [image_size, image_size, 3],
      'padding': 'symmetric' if variant.sparse else 'same'}})
  np.random.seed(0)
  floats = task_factory.get_task(config).build_model()
  # With the statistics of initialization activations would vanish.
  batch_norm.adopt(floats, images)
  integers = 'quantization' in variant.blocks
  model = floats
  if variant.before:
    model = modelgarden_opt.compress(model, **variant.before)
  if variant.blocks:
    model = modelgarden_opt.compress(
        model, **variant.blocks,
        calibration_data=images if integers else None)
  files.write_atomically(path, convert.convert(
      model, 'int8' if integers else 'float32', sparse=variant.sparse,
      runtime=variant.runtime, io_dtype='int8' if integers else 'float32'))


def measure(image_size: int, name: str) -> Iterator[dict[str, Any]]:
  """Yields one row for every device."""
  from modelgarden_opt.targets import devices  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.targets import measuring  # pylint: disable=g-import-not-at-top
  with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, 'model.tflite')
    write_file(path, image_size, VARIANTS[name])
    with open(path, 'rb') as f:
      content = f.read()
    for device in DEVICES:
      device_name, _, arch = device.partition(' ')
      row = {
          **provenance.columns(), 'model': MODEL, 'image_size': image_size,
          'variant': name, 'size_bytes': len(content),
          'gzip_bytes': len(gzip.compress(content)), 'device': device}
      try:
        found, = measuring.measure([path], [device_name], devices.Options(
            arch=arch or 'x86_64'))['results']
        row |= {field: found[field] for field in FIELDS if field in found
                and field not in row}
      except (errors.UsageError, errors.Failure) as e:
        row['refused'] = str(e).replace(path, name)
      yield row


def write(rows: list[dict[str, Any]]) -> None:
  """Writes rows to `RESULTS`, in place of those of the same files."""
  kept.replace(RESULTS, FIELDS, rows, lambda row: row['variant'],
               lambda row: list(VARIANTS).index(row['variant']))


def table() -> str:
  """Returns the kept results as a Markdown table, a line for each file."""
  found: dict[str, dict[str, dict[str, str]]] = {}
  for row in kept.read(RESULTS):
    found.setdefault(row['variant'], {})[row['device']] = row
  lines = []
  for name, rows in found.items():
    first = next(iter(rows.values()))
    lines.append([
        name, f'{int(first["size_bytes"]) / 1e6:.2f}',
        f'{int(first["gzip_bytes"]) / 1e6:.2f}',
        *(_value(rows.get(device, {}), field, unit)
          for device, field, unit in _COLUMNS.values())])
  return tables.markdown(('file', 'MB', 'zipped', *_COLUMNS), lines, num_text=1)


def _value(row: Mapping[str, str], field: str, unit: float) -> str:
  if not row.get(field):
    return 'refused' if row.get('refused') else '-'
  value = float(row[field]) / unit
  return f'{value:.0f}' if unit > 1 or value.is_integer() else f'{value:.2f}'


def main() -> None:
  """Measures all files, or only renders."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--variant', action='append', choices=list(VARIANTS),
                      help='repeatable (default: all)')
  parser.add_argument('--image_size', type=int, default=IMAGE_SIZE)
  parser.add_argument('--render', action='store_true')
  args = parser.parse_args()
  if not args.render:
    for name in args.variant or VARIANTS:
      write(list(measure(args.image_size, name)))
  files.replace_section(PAGE, MARK, table())


if __name__ == '__main__':
  main()
