"""What zeros save on Arm: instructions of sparse files beside dense ones.

    python -m projects.targets.sparse_inference

Models of the catalog with random weights, whose pointwise kernels are pruned
by magnitude, are written dense and sparse and run in QEMU's emulation of a
Cortex-A76 and of a Nehalem. Rows go to `results/sparse_inference.csv`, the
table to docs/targets.md (`--render` only writes the table).
"""

import argparse
from collections.abc import Iterator
import dataclasses
import os
import tempfile
from typing import Any

from modelgarden_opt import files
from modelgarden_opt.report import tables
from projects import kept
from projects import provenance

RESULTS = os.path.join(
    os.path.dirname(__file__), 'results', 'sparse_inference.csv')
PAGE = 'docs/targets.md'
MARK = 'sparse_inference'
ARCHITECTURES = ('aarch64', 'x86_64')
FIELDS = (*provenance.COLUMNS, 'model', 'image_size', 'padding', 'zeros',
          'format', 'stored', 'eligible', 'size_bytes', 'arch', 'processor',
          'qemu', 'instructions', 'to_dense')


@dataclasses.dataclass(frozen=True)
class Model:
  """A model and its files.

  Attributes:
    name: Its experiment.
    image_size: Height and width of an image in pixels.
    padding: `task.model.padding`.
    files: Share of zeros and format of each sparse file.
  """
  name: str
  image_size: int
  padding: str
  files: tuple[tuple[float, str], ...]

  @property
  def key(self) -> tuple[str, str, str]:
    """What its rows have in common."""
    return self.name, str(self.image_size), self.padding


_80 = ((0.8, 'float32'),)
_ALL = ((0.5, 'float32'), (0.7, 'float32'), *_80, (0.9, 'float32'),
        (0.8, 'float16'))
MODELS = (
    Model('mobilenet_v2', 224, 'same', _80),
    Model('mobilenet_v2', 224, 'symmetric', _ALL),
    Model('mobilenet_v2', 225, 'same', (*_80, (0.9, 'float32'))),
    Model('mobilenet_v3_large', 224, 'symmetric', _ALL[2:]),
    Model('mobilenet_v3_large', 225, 'same', _80),
)


def _write_files(model: Model, directory: str) -> Iterator[dict[str, Any]]:
  """Writes the files of a model, the dense one first; yields their columns."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.cli import config_flags
  config_flags.import_tensorflow()
  from official.core import exp_factory
  from official.core import task_factory

  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.configs import pruning
  from modelgarden_opt.evaluation import model_file
  from modelgarden_opt.evaluation import sparse_inference
  from modelgarden_opt.export import convert
  from modelgarden_opt.modeling import constraints
  from modelgarden_opt.modeling import factory
  config = exp_factory.get_exp_config(model.name).task
  config.override({'model': {
      'input_size': [model.image_size, model.image_size, 3],
      'padding': model.padding}})
  floats = task_factory.get_task(config).build_model()
  for zeros, file_format in ((0.0, 'float32'), *model.files):
    made = factory.compress(floats, pruning.Pruning(
        final_sparsity=zeros, end_step=0, policy='pointwise'))
    constraints.update(constraints.find(made), 0)
    path = os.path.join(directory, f'{zeros}_{file_format}.tflite')
    files.write_atomically(
        path, convert.convert(made, file_format, sparse=zeros > 0.0))
    yield {
        'path': path, 'zeros': zeros, 'format': file_format,
        'stored': 'sparse' if zeros else 'dense',
        'eligible': sparse_inference.assess(
            model_file.read(path))['eligible'],
        'size_bytes': os.path.getsize(path)}


def measure(model: Model) -> Iterator[dict[str, Any]]:
  """Yields one row for every file and processor."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.targets import devices
  from modelgarden_opt.targets import instructions
  with tempfile.TemporaryDirectory() as directory:
    dense: dict[str, int] = {}
    for columns in _write_files(model, directory):
      path = columns.pop('path')
      for arch in ARCHITECTURES:
        found = instructions.measure(
            path, devices.find('cpu'), devices.Options(arch=arch))
        count = found['instructions']
        yield {
            **provenance.columns(), 'model': model.name,
            'image_size': model.image_size, 'padding': model.padding,
            **columns, 'arch': arch, 'processor': found['processor'],
            'qemu': found['version'], 'instructions': count,
            'to_dense': round(count / dense.setdefault(arch, count), 4)}


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
  return row['model'], str(row['image_size']), row['padding']


def write(rows: list[dict[str, Any]]) -> None:
  """Writes rows to `RESULTS`, in place of those of the same models."""
  order = [model.key for model in MODELS]
  kept.replace(RESULTS, FIELDS, rows, _key, lambda row: order.index(_key(row)))


def table() -> str:
  """Returns the kept results as a Markdown table, a line for each file."""
  lines: dict[tuple, dict[str, dict]] = {}
  for row in kept.read(RESULTS):
    lines.setdefault((*_key(row), row['zeros'], row['format'], row['stored'],
                      row['size_bytes']), {})[row['arch']] = row
  rows = []
  for (model, size, padding, zeros, file_format, stored,
       num_bytes), found in lines.items():
    row = [model, size, padding, f'{file_format}, {stored}',
           f'{float(zeros):.0%}', f'{int(num_bytes) / 1e6:.2f}']
    for arch in ARCHITECTURES:
      row += [f'{int(found[arch]["instructions"]) / 1e6:.1f}',
              f'{float(found[arch]["to_dense"]):.3f}']
    rows.append(row)
  return tables.markdown(
      ('model', 'pixels', 'padding', 'kernels', 'zeros', 'MB',
       'Cortex-A76, million instructions', 'to dense',
       'Nehalem, million instructions', 'to dense'), rows, num_text=4)


def main() -> None:
  """Measures all models, or only renders."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', action='append',
                      choices=sorted({m.name for m in MODELS}),
                      help='repeatable (default: all)')
  parser.add_argument('--render', action='store_true')
  args = parser.parse_args()
  if not args.render:
    write([row for model in MODELS
           if not args.model or model.name in args.model
           for row in measure(model)])
  files.replace_section(PAGE, MARK, table())


if __name__ == '__main__':
  main()
