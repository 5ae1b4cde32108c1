"""Times this project against the installed `official.projects.qat`."""

from collections.abc import Mapping
from collections.abc import Sequence
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from modelgarden_opt import files
from modelgarden_opt.benchmark import latency
from modelgarden_opt.evaluation import tflite
from modelgarden_opt.report import tables
from projects.model_garden_bench import variants as variants_lib

PARTS = ('training', 'files')
_FILES = ('float32', 'ptq', 'qat', 'peer')


def compare(
    families: Sequence[str],
    image_size: int = 224,
    batch_size: int = 16,
    rounds: int = 10,
    parts: Sequence[str] = PARTS,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Measures every family; whatever is compared is timed in turn.

  Args:
    families: Names from `variants.FAMILIES`.
    image_size: Side of the images in pixels.
    batch_size: Images of a training step.
    rounds: Counted training steps of every model.
    parts: What to measure beside building: `training`, `files` or both.
    before: An earlier comparison; what is not measured is taken from it.

  Returns:
    `{"environment": …, "settings": …, "families": {name: measurements}}`.
  """
  measured = dict(before['families']) if before else {}
  for family in families:
    print(f'{family} ...', flush=True)
    variants = variants_lib.Variants(family, image_size)
    found = {'build_s': _builds(variants)}
    if 'training' in parts:
      found |= _steps(variants, batch_size, rounds)
      found['peak_memory_mib'] = {
          name: _peak_memory(family, name, image_size, batch_size)
          for name in variants_lib.NAMES}
    if 'files' in parts:
      found |= _conversion(variants)
    measured[family] = {**measured.get(family, {}), **found}
  return {
      'environment': latency.environment(),
      'settings': {'image_size': image_size, 'batch_size': batch_size,
                   'rounds': rounds},
      'families': measured,
  }


def _builds(variants: variants_lib.Variants) -> dict[str, list[float]]:
  """Builds every model twice, in turn; the first time warms up caches."""
  seconds = {name: [] for name in variants_lib.NAMES}
  for _ in range(2):
    for name in variants_lib.NAMES:
      seconds[name].append(variants.build(name))
  return seconds


def _steps(
    variants: variants_lib.Variants, batch_size: int, rounds: int
) -> dict[str, Any]:
  batch = variants.batch(batch_size)
  steps, first, times = {}, {}, {name: [] for name in variants_lib.NAMES}
  for name in variants_lib.NAMES:
    start = time.perf_counter()
    steps[name] = variants.train_step(name)
    steps[name](*batch).numpy()
    first[name] = time.perf_counter() - start
  for turn in range(rounds + 1):
    order = variants_lib.NAMES if turn % 2 else variants_lib.NAMES[::-1]
    for name in order:
      start = time.perf_counter()
      steps[name](*batch).numpy()
      if turn:
        times[name].append(time.perf_counter() - start)
  return {'first_step_s': first, 'step_s': times}


def _conversion(variants: variants_lib.Variants) -> dict[str, Any]:
  with tempfile.TemporaryDirectory() as directory:
    converted = {name: variants.convert(name, directory) for name in _FILES}
    paths = [converted[name][0] for name in _FILES]
    return {
        'convert_s': {name: converted[name][1] for name in _FILES},
        'census': {name: vars(tflite.census(path))
                   for name, path in zip(_FILES, paths)},
        'latency': {
            str(threads): dict(zip(_FILES, latency.benchmark(
                paths, num_threads=threads, num_runs=100)['results']))
            for threads in (1, 2)},
    }


def _peak_memory(
    family: str, name: str, image_size: int, batch_size: int) -> float:
  """Measures in a process of its own, which has built nothing else."""
  script = (
      'from projects.model_garden_bench import variants\n'
      f'print(variants.peak_memory_mib({family!r}, {name!r}, {image_size}, '
      f'{batch_size}))')
  output = subprocess.run(
      [sys.executable, '-c', script], check=True, capture_output=True,
      text=True, env={**os.environ, 'PYTHONPATH': os.getcwd()}).stdout
  return float(output.split()[-1])


def ratio(a: Sequence[float], b: Sequence[float]) -> str:
  """Returns the median of paired ratios, or `no difference` within the noise.

  Args:
    a: Measurements.
    b: Measurements that were taken in turn with them.
  """
  ratios = np.asarray(a) / np.asarray(b)
  low, high = np.percentile(ratios, [10, 90])
  if low <= 1.0 <= high:
    return 'no difference'
  return f'{np.median(ratios):.2f}x'


def _rows(result: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
  """Returns what is shown of every family, by title and variant."""
  rows = {}

  def row(title, of, show):
    rows[title, of] = [show(m) for m in result['families'].values()]

  for name in ('qat', 'peer'):
    row('build / float build', name,
        lambda m, n=name:
        f"{m['build_s'][n][-1] / m['build_s']['float'][-1]:.2f}x")
    row('step / float step', name,
        lambda m, n=name: ratio(m['step_s'][n], m['step_s']['float']))
    row('tracing and first step / float', name,
        lambda m, n=name:
        f"{m['first_step_s'][n] / m['first_step_s']['float']:.2f}x")
    row('peak memory / float', name,
        lambda m, n=name:
        f"{m['peak_memory_mib'][n] / m['peak_memory_mib']['float']:.2f}x")
    row('conversion, s', name, lambda m, n=name: f"{m['convert_s'][n]:.1f}")
    row('delegate partitions', name,
        lambda m, n=name: str(m['census'][n]['num_delegate_partitions']))
    row('file, MiB', name,
        lambda m, n=name: f"{m['census'][n]['size_bytes'] / 2**20:.2f}")
  row('conversion, s', 'float32', lambda m: f"{m['convert_s']['float32']:.1f}")
  row('conversion, s', 'PTQ', lambda m: f"{m['convert_s']['ptq']:.1f}")
  for threads in ('1', '2'):
    row(f'fp32 latency, ms, {threads} thread(s)', 'float32',
        lambda m, t=threads: f"{m['latency'][t]['float32']['median_ms']:.2f}")
    for base, title, names in (('float32', 'fp32', ('ptq', 'qat', 'peer')),
                               ('ptq', 'PTQ', ('qat', 'peer'))):
      for name in names:
        row(f'latency / {title}, {threads} thread(s)', name,
            lambda m, t=threads, b=base, n=name: ratio(
                *(m['latency'][t][key]['block_ms'] for key in (n, b))))
  return rows


def markdown(result: dict[str, Any]) -> str:
  """Returns the whole table of a comparison."""
  return tables.markdown(
      ['', 'of', *result['families']],
      [[*key, *cells] for key, cells in _rows(result).items()], num_text=2)


def summary(result: dict[str, Any]) -> str:
  """Returns a table of this project, in brackets the peer where it differs."""
  rows = _rows(result)
  return tables.markdown(
      ['this project (peer, if different)', *result['families']],
      [[title, *(ours if ours == theirs else f'{ours} ({theirs})'
                 for ours, theirs in zip(cells, rows[title, 'peer']))]
       for (title, of), cells in rows.items()
       if of == 'qat' and '2 thread' not in title])


def write(
    result: dict[str, Any], json_path: str, markdown_path: str,
    summary_path: str,
) -> None:
  """Writes the JSON and puts the tables into Markdown files.

  Args:
    result: What `compare` returned.
    json_path: Path of the JSON file.
    markdown_path: A file with the lines `<!-- bench -->` and `<!-- /bench -->`;
      the table replaces what stands between them.
    summary_path: Another one, for the summary.
  """
  files.write_json(json_path, result)
  environment = ', '.join(
      f'{k} {v}' for k, v in result['environment'].items())
  settings = ', '.join(
      f"{k.replace('_', ' ')} {v}" for k, v in result['settings'].items())
  measured = f'Measured on: {environment}. Settings: {settings}.'
  for path, table in ((markdown_path, markdown(result)),
                      (summary_path, summary(result))):
    files.replace_section(path, 'bench', f'{table}\n\n{measured}')
