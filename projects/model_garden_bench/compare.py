"""Times this project against the installed `official.projects.qat`."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import os
import subprocess
import sys
import tempfile
from typing import Any

from modelgarden_opt.benchmark import latency
from modelgarden_opt.benchmark import training
from modelgarden_opt.evaluation import census
from projects import model_garden_bench
from projects import provenance
from projects.model_garden_bench import variants as variants_lib

_FILES = ('float32', 'ptq', 'qat', 'peer')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How a comparison is made.

  Attributes:
    image_size: Side of the images in pixels.
    batch_size: Images of a training step.
    rounds: Counted training steps of every model.
    builds: Counted builds of every model.
    first_steps: Counted tracings, with a first step, of every model.
  """
  image_size: int = 224
  batch_size: int = 16
  rounds: int = 10
  builds: int = 5
  first_steps: int = 3


def compare(
    families: Sequence[str],
    settings: Settings,
    parts: Sequence[str] = model_garden_bench.PARTS,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Measures every family; measurements that are compared are interleaved.

  Args:
    families: Names from `variants.FAMILIES`.
    settings: How large, and how often.
    parts: Which of `PARTS` to measure beside building.
    before: An earlier comparison; what is not measured is taken from it.

  Returns:
    `{"commit": …, "date": …, "environment": …, "settings": …, "families":
    {name: measurements}}`. The first of several builds and first steps warms
    up caches and does not count.
  """
  measured = dict(before['families']) if before else {}
  for family in families:
    print(f'{family} ...', flush=True)
    variants = variants_lib.Variants(family, settings.image_size)
    found = {'build_s': _builds(variants, 1 + settings.builds)}
    if 'training' in parts:
      found |= _steps(variants, settings)
      found['peak_memory_mib'] = {
          name: _peak_memory(family, name, settings)
          for name in variants_lib.NAMES}
    if 'files' in parts:
      found |= _conversion(variants)
    measured[family] = {**measured.get(family, {}), **found}
  return {
      'commit': provenance.commit(),
      'date': datetime.date.today().isoformat(),
      'environment': latency.environment(),
      'settings': dataclasses.asdict(settings),
      'families': measured,
  }


def _builds(
    variants: variants_lib.Variants, times: int) -> dict[str, list[float]]:
  """Builds all models, interleaved; the quantized ones from the float one."""
  seconds = {name: [] for name in variants_lib.NAMES}
  for _ in range(times):
    for name in variants_lib.NAMES:
      seconds[name].append(variants.build(name))
  return seconds


def _steps(
    variants: variants_lib.Variants, settings: Settings) -> dict[str, Any]:
  batch = variants.batch(settings.batch_size)
  steps = {}

  def first(name):
    steps[name] = variants.train_step(name)
    steps[name](*batch).numpy()

  first_s = training.in_turn(
      {name: lambda name=name: first(name) for name in variants_lib.NAMES},
      1 + settings.first_steps)
  calls = {name: lambda name=name: steps[name](*batch).numpy()
           for name in variants_lib.NAMES}
  training.in_turn(calls, 1)  # Warms up.
  return {'first_step_s': first_s,
          'step_s': training.in_turn(calls, settings.rounds)}


def _conversion(variants: variants_lib.Variants) -> dict[str, Any]:
  with tempfile.TemporaryDirectory() as directory:
    converted = {name: variants.convert(name, directory) for name in _FILES}
    paths = [converted[name][0] for name in _FILES]
    return {
        'convert_s': {name: converted[name][1] for name in _FILES},
        'census': {name: vars(census.take(path))
                   for name, path in zip(_FILES, paths)},
        'latency': {
            str(threads): dict(zip(_FILES, latency.benchmark(
                paths, num_threads=threads, num_runs=100)['results']))
            for threads in (1, 2)},
    }


def _peak_memory(family: str, name: str, settings: Settings) -> float:
  """Measures in a separate process, which has built nothing else."""
  script = (
      'from projects.model_garden_bench import variants\n'
      f'print(variants.peak_memory_mib({family!r}, {name!r}, '
      f'{settings.image_size}, {settings.batch_size}))')
  output = subprocess.run(
      [sys.executable, '-c', script], check=True, capture_output=True,
      text=True, env={**os.environ, 'PYTHONPATH': os.getcwd()}).stdout
  return float(output.split()[-1])
