"""Joins evaluation and benchmark records into one record per variant."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import os
import statistics
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import ratios
from modelgarden_opt.report import choosing
from modelgarden_opt.report import families
from modelgarden_opt.report import finding
from modelgarden_opt.report import predictions as predictions_lib
from modelgarden_opt.report import runs as runs_lib

# Fields that a variant takes over from its benchmark record.
_MEASURED = ('size_bytes', 'gzip_bytes', 'median_ms', 'p90_ms', 'min_ms',
             'num_threads', 'num_delegate_partitions')
# Fields that it takes over from its evaluation record where they are there.
_EVALUATED = ('split', 'data', 'data_role', 'per_class_iou')
# Fields of evaluations of one file that are alike for the same images.
_SCORED = ('metrics', 'num_examples', 'split', 'data')
# Fields that it takes over from its export record where they are there.
_EXPORTED = ('format', 'size_bytes', 'gzip_bytes', 'num_delegate_partitions',
             'ranges', 'ptq')
# The order of variants that nothing else orders.
_FORMATS = ('float32', 'float16', 'dynamic_int8', 'int16x8', 'int8')


def _held(export: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what a file's kernels hold: zeros and, in the median, values."""
  kernels = export['kernels']
  if not kernels:
    return {}
  return {
      'sparsity': export['sparsity'],
      'distinct': statistics.median_low(
          kernel['distinct'] for kernel in kernels),
      'kernel_types': dict(collections.Counter(
          kernel['dtype'] for kernel in kernels)),
  }


def _rank(evaluation: Mapping[str, Any]) -> tuple[bool, int]:
  """Says which evaluation counts: of the test split, and of most images."""
  return evaluation.get('split') == 'test', evaluation.get('num_examples', 0)


def join(
    variants: Mapping[str, str],
    evaluations: Iterable[Mapping[str, Any]],
    benchmark: Mapping[str, Any],
    exports: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
  """Returns `{"variants": [...], "environment": {...}}`.

  Args:
    variants: Path of the file by the variant's name, in the table's order.
    evaluations: Contents of `evaluate --output_json` files.
    benchmark: Content of a `benchmark --output_json` file.
    exports: Contents of `export --output_json` files, for the share of zeros
      and the number of distinct weights.

  Raises:
    UsageError: If a file was not evaluated or not benchmarked.
  """
  found = finding.given(evaluations, [benchmark], exports)
  assert_measured(variants, found)
  return collect(found, variants)


def assert_measured(
    variants: Mapping[str, str], found: finding.Found) -> None:
  """Raises `UsageError` if a file was not evaluated or not benchmarked."""
  for kind in ('evaluation', 'benchmark'):
    known = [r['model'] for value in found.of(kind) for r in value['results']]
    for name, path in variants.items():
      if path not in known:
        raise errors.UsageError(
            f'variant {name}: no {kind} record of {path!r}'
            f'{errors.nearest(path, known)}')


def scores(found: finding.Found) -> dict[str, Mapping[str, Any]]:
  """Returns the evaluation that counts by the path of the file."""
  return _Records(found).evaluations


def collect(
    found: finding.Found,
    variants: Mapping[str, str] | None = None,
    runs: Mapping[str, runs_lib.Run] | None = None,
    predictions: Mapping[str, predictions_lib.Predictions] | None = None,
) -> dict[str, Any]:
  """Returns one record per file, from whatever was measured of it.

  Args:
    found: What was found, see `finding.find`.
    variants: Path of the file by the variant's name, in the table's order;
      None for all files that were found.
    runs: Runs by directory, for the technique that made a file.
    predictions: Predictions by file, for paired differences.

  Returns:
    `variants`, of which the first is what the others are compared with, and
    `environment`.
  """
  records = _Records(found)
  given = variants is not None
  variants = variants if given else names_of(found, records)
  made = [records.of(name, found.path_of(path), path)
          for name, path in variants.items()]
  for variant in made:
    _add_family(variant, runs or {})
  if not given:
    made.sort(key=lambda v: v['family'] != 'float' or v['format'] != 'float32')
  _compare(made, records, predictions or {}, found)
  return {'variants': made, 'environment': records.environment}


def _by_path(
    results: Iterable[Mapping[str, Any]], path_of: Callable[[str], str]
) -> dict[str, Mapping[str, Any]]:
  """Returns the record of every file, of several settings the first one."""
  found = {}
  for result in results:
    found.setdefault(path_of(result['model']), result)
  return found


class _Records:
  """Records of files, by the path of the file."""

  def __init__(self, found: finding.Found):
    self._found, path_of = found, found.path_of
    self.exports = {path_of(e['model']): e for e in found.of('export')}
    self.evaluations = {}
    # What the difference of an evaluation refers to: a file and its score.
    self.compared_with = {}
    for evaluation in found.of('evaluation'):
      files = [r for r in evaluation['results'] if r.get('format') != 'keras'
               and not r.get('data_set')]  # Of other data than the run's.
      for r in files:
        path = path_of(r['model'])
        if _rank(r) >= _rank(self.evaluations.get(path, {})):
          self.evaluations[path] = r
          self.compared_with[path] = path_of(files[0]['model']), files[0]
    self.benchmarks = [_by_path(benchmark['results'], path_of)
                       for benchmark in found.of('benchmark')]
    self.environment = next(
        (b['environment'] for b in reversed(found.of('benchmark'))), {})

  def is_compared(self, path: str, first: str) -> bool:
    """Whether the difference of a file is from the score of the first one."""
    file, score = self.compared_with.get(path, ('', {}))
    shown = self.evaluations.get(first, {})
    return file == first and all(
        score.get(k) == shown.get(k) for k in _SCORED)

  def timed(self, path: str) -> Mapping[str, Any]:
    """Returns the newest benchmark record of a file, {} if there is none."""
    return next((b[path] for b in reversed(self.benchmarks) if path in b), {})

  def of(self, name: str, path: str, given: str) -> dict[str, Any]:
    """Returns the record of one variant."""
    evaluation = self.evaluations.get(path, {})
    export, timed = self.exports.get(path, {}), self.timed(path)
    variant = {
        'name': name, 'model': given,
        **evaluation.get('metrics', {}),
        **{k: evaluation[k] for k in ('num_examples', 'agreement')
           if k in evaluation},
        **{k: evaluation[k] for k in _EVALUATED if k in evaluation},
        **{k: export[k] for k in _EXPORTED if k in export},
        **{k: timed[k] for k in _MEASURED if k in timed},
        **(_held(export) if export else {}),
    }
    variant.setdefault('format', evaluation.get('format', ''))
    if 'size_bytes' not in variant and files.is_file(path):
      variant['size_bytes'] = files.size_and_time(path)[0]
    run = self._found.run_of(export['checkpoint']) if (
        export.get('checkpoint')) else ''
    if run:
      variant['run'] = run
    return variant


def _compare(
    made: Sequence[dict[str, Any]],
    records: _Records,
    predictions: Mapping[str, predictions_lib.Predictions],
    found: finding.Found,
) -> None:
  """Adds what a variant is beside the first one and beside all others."""
  paths = [found.path_of(v['model']) for v in made]
  for variant, path in zip(made, paths):
    variant |= _ratio(records, path, paths[0])
    if path == paths[0]:
      continue
    difference = predictions_lib.difference(
        predictions.get(path), predictions.get(paths[0]))
    if difference is None and records.is_compared(path, paths[0]):
      difference = records.evaluations[path].get('difference')
    if difference is not None:
      variant['difference'] = difference
  for variant, other in zip(made, choosing.dominators(made)):
    variant['dominated_by'] = other


def _ratio(records: _Records, path: str, first: str) -> dict[str, Any]:
  """Returns the latency ratio to the first variant, where both were timed."""
  for benchmark in reversed(records.benchmarks):
    if path not in benchmark or first not in benchmark:
      continue
    if next(iter(benchmark)) == first or 'block_ms' not in benchmark[path]:
      return ratios.Ratio.of_record(benchmark[path]).record()
    return ratios.paired(benchmark[path]['block_ms'],
                         benchmark[first]['block_ms']).record()
  return {}


def _add_family(
    variant: dict[str, Any], runs: Mapping[str, runs_lib.Run]) -> None:
  run = runs.get(variant.get('run', ''))
  blocks = dict(run.blocks) if run else {}
  while run and run.source in runs and run.source != run.directory:
    run = runs[run.source]  # Channels that are gone stay gone.
    pruning = run.blocks.get('pruning') or {}
    if pruning.get('granularity') == 'channel':
      blocks.setdefault('pruning', pruning)
  variant['family'] = families.of(blocks, variant['format'])


def names_of(found: finding.Found, records: '_Records') -> dict[str, str]:
  """Returns the path of every file by a name: short, and of one file only.

  What an earlier report or a search called a file, it keeps, unless that may
  be another one, too. Otherwise a file has its own name, with that of its
  directory where two share it or it says nothing.
  """
  paths = list(dict.fromkeys(
      [*records.exports, *records.evaluations, *found.files]))
  earlier = _earlier(found)
  paths.sort(key=lambda p: _order(p, records, list(earlier)))
  stems = {path: _named(path) for path in paths}
  counts = collections.Counter(stems.values())
  stems = {path: stem if counts[stem] == 1 else path
           for path, stem in stems.items()}
  short = finding.short(list(stems.values()))
  owners = collections.defaultdict(set)
  for path, stem in stems.items():
    for name in (short[stem], earlier.get(path, short[stem])):
      owners[name].add(path)
  names = {path: earlier.get(path, short[stem])
           for path, stem in stems.items()}
  return {name if len(owners[name]) == 1 else short[stems[path]]: path
          for path, name in names.items()}


def _earlier(found: finding.Found) -> dict[str, str]:
  """Returns what searches and earlier reports called files, by their path."""
  named = [v for kind, field in (('search', 'trials'), ('earlier', 'variants'))
           for value in found.of(kind) for v in value[field]
           if isinstance(v, Mapping)]
  return {found.path_of(v['model']): v['name'] for v in named
          if isinstance(v.get('model'), str) and v.get('name')
          and isinstance(v['name'], str)}


def _named(path: str) -> str:
  """Returns a path without what says nothing: its ending, and `model`."""
  stem = os.path.splitext(path)[0]
  return os.path.dirname(stem) if (
      os.path.basename(stem) == 'model' and '/' in stem) else stem


def _order(
    path: str, records: '_Records', earlier: Sequence[str]) -> tuple[Any, ...]:
  timed = [p for b in reversed(records.benchmarks) for p in b]
  for known in (earlier, timed):
    if path in known:
      return 0, known.index(path), path
  file_format = records.exports.get(path, records.evaluations.get(
      path, {})).get('format')
  rank = _FORMATS.index(file_format) if file_format in _FORMATS else 9
  return 1, rank, path
