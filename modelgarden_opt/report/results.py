"""Joins evaluation and benchmark records into one record per variant."""

from collections.abc import Iterable
from collections.abc import Mapping
import statistics
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import ratios

# Fields that a variant takes over from its benchmark record.
_MEASURED = ('size_bytes', 'gzip_bytes', 'median_ms', 'p90_ms', 'min_ms',
             'num_threads', 'num_delegate_partitions')
# Fields that it takes over from its evaluation record where they are there.
_EVALUATED = ('split', 'data', 'data_role')


def _held(export: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what a file's kernels hold: zeros and, in the median, values."""
  return {
      'sparsity': export['sparsity'],
      'distinct': statistics.median_low(
          kernel['distinct'] for kernel in export['kernels']),
  }


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
  scored = {r['model']: r for e in evaluations for r in e['results']}
  timed = {r['model']: r for r in benchmark['results']}
  held = {e['model']: _held(e) for e in exports}
  records = []
  for name, path in variants.items():
    for kind, found in (('evaluation', scored), ('benchmark', timed)):
      if path not in found:
        raise errors.UsageError(
            f'variant {name}: no {kind} record of {path!r}'
            f'{errors.nearest(path, found)}')
    records.append({
        'name': name,
        'model': path,
        **scored[path]['metrics'],
        'num_examples': scored[path]['num_examples'],
        'agreement': scored[path]['agreement'],
        **{field: scored[path][field] for field in _EVALUATED
           if field in scored[path]},
        **{field: timed[path][field] for field in _MEASURED},
        **ratios.Ratio.of_record(timed[path]).record(),
        **held.get(path, {}),
    })
  return {'variants': records, 'environment': benchmark['environment']}
