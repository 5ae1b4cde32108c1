"""Sizes of pruned files: `python -m projects.imagenet_pruning.sizes`.

Sizes do not depend on training, so the weights are random.
"""

import argparse
import os
import tempfile

from official.core import exp_factory
from official.core import task_factory

from modelgarden_opt import files
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.configs import pruning
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import factory
from modelgarden_opt.report import tables

_README = os.path.join(os.path.dirname(__file__), 'README.md')
# Published MiB of dense files and at 50 and 80 % zeros; source: the Model
# Garden's pruning project, README.
PUBLISHED = {'mobilenet_v2': (13.36, 9.74, 4.00),
             'resnet50': (97.44, 70.34, 28.35)}
SPARSITIES = (0.0, 0.5, 0.8)


def measure(family: str, sparsity: float, directory: str) -> list[str]:
  """Returns one line of the table: sizes of the dense and the sparse file."""
  task = task_factory.get_task(exp_factory.get_exp_config(family).task)
  model = factory.compress(task.build_model(), pruning.Pruning(
      final_sparsity=sparsity, end_step=0, policy='all'))
  constraints.update(constraints.find(model), 0)
  path = os.path.join(directory, 'm.tflite')
  sizes = []
  for sparse in (False, True):
    with open(path, 'wb') as f:
      f.write(convert.convert(model, 'float32', sparse=sparse))
    census.take(path)  # Raises if the file cannot be loaded.
    sizes += [os.path.getsize(path) / 2**20, census.gzip_bytes(path) / 2**20]
  zeros = inspection.sparsity(inspection.kernels(path))
  published = PUBLISHED[family][SPARSITIES.index(sparsity)]
  return [family, f'{zeros:.2%}', f'{sizes[0]:.2f}', f'{sizes[1]:.2f}',
          f'{sizes[2]:.2f}', f'{published:.2f}']


def main() -> None:
  """Measures both families and puts the table into README.md."""
  argparse.ArgumentParser(description=__doc__).parse_args()
  header = ['model', 'zeros in the file', 'dense MiB', 'dense, zipped MiB',
            '--sparse MiB', 'published MiB']
  rows = []
  with tempfile.TemporaryDirectory() as directory:
    for family in PUBLISHED:
      for sparsity in SPARSITIES:
        rows.append(measure(family, sparsity, directory))
        print(rows[-1], flush=True)
  files.replace_section(_README, 'sizes', tables.markdown(header, rows))


if __name__ == '__main__':
  main()
