"""Which of the measured files to ship, and why."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
import re
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import ratios

# Scores of a variant, of which it has one, and what people call them.
SCORES = {'top_1_accuracy': 'top-1', 'mean_iou': 'mIoU'}
# What is to be small -> fields of a variant, the first one that it has.
COSTS = {
    'size': ('gzip_bytes', 'size_bytes'),
    'flash': ('flash_bytes', 'size_bytes'),
    'latency': ('median_ms',),
    'instructions': ('instructions',),
}
_UNITS = {'': 1, 'B': 1, 'kB': 1000, 'KB': 1000, 'MB': 10**6, 'KiB': 2**10,
          'MiB': 2**20}
_SIZE = re.compile(r'(?P<number>\d+(\.\d+)?) ?(?P<unit>[kKM]?i?B)?')
# Points of accuracy that a file may lose where nobody says otherwise.
MAX_DROP = 0.5
# A limit of fewer points is exceeded as this one is.
_LEAST_DROP = 0.1

Variant = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Constraints:
  """What a file has to fulfill.

  Attributes:
    max_drop: Points of accuracy that it may lose against the first variant.
    max_bytes: Largest size of the file, None for any.
    max_ms: Largest median latency in milliseconds, None for any.
    minimize: Key of `COSTS`.
  """
  max_drop: float = MAX_DROP
  max_bytes: float | None = None
  max_ms: float | None = None
  minimize: str = 'size'


def score_of(variants: Sequence[Variant]) -> str:
  """Returns the score that the variants have, '' if they were not evaluated.
  """
  return next((s for s in SCORES if any(s in v for v in variants)), '')


def cost(variant: Variant, name: str) -> float | None:
  """Returns what is to be small of a variant, None if it was not measured."""
  return next((variant[f] for f in COSTS[name] if variant.get(f)), None)


def drop(variant: Variant, first: Variant) -> float | None:
  """Returns the points of accuracy that a variant loses, None if unknown."""
  score = score_of([first])
  if not score or score not in variant:
    return None
  return 100.0 * (first[score] - variant[score])


def failures(
    variant: Variant, first: Variant, constraints: Constraints) -> list[str]:
  """Returns which constraints a variant does not meet, by how much."""
  found = []
  lost = drop(variant, first)
  if lost is None:
    found.append('its accuracy was not measured')
  elif lost > constraints.max_drop + 1e-9:
    found.append(f'it loses {lost:.2f} points, {constraints.max_drop:g} are '
                 'allowed')
  for limit, field, text in (
      (constraints.max_bytes, 'size_bytes', '{:,.0f} bytes'),
      (constraints.max_ms, 'median_ms', '{:.3g} ms')):
    if limit is None:
      continue
    if not variant.get(field):
      found.append(f'its {field} was not measured')
    elif variant[field] > limit:
      found.append(f'it has {text.format(variant[field])}, '
                   f'{text.format(limit)} are allowed')
  return found


def margins(
    variant: Variant, first: Variant, constraints: Constraints) -> list[str]:
  """Returns how far a variant that meets all constraints is from each."""
  found = [f'accuracy: {difference(variant, first)} from {first["name"]}, '
           f'{signed(-constraints.max_drop)} are allowed']
  low = (variant.get('difference') or {}).get('low')
  if low is not None and -100 * low > constraints.max_drop:
    found[0] += '; the interval reaches beyond that, more images would tell'
  if constraints.max_bytes is not None:
    found.append(
        f'size: {variant["size_bytes"]:,} bytes of {constraints.max_bytes:,.0f}'
        f' ({1 - variant["size_bytes"] / constraints.max_bytes:.0%} to spare)')
  if constraints.max_ms is not None:
    found.append(
        f'latency: {milliseconds(variant["median_ms"])} of '
        f'{milliseconds(constraints.max_ms)} '
        f'({1 - variant["median_ms"] / constraints.max_ms:.0%} to spare)')
  if constraints.minimize == 'latency' and variant is not first and (
      variant.get('ratio') is None):
    found.append(f'latency: it was not timed beside {first["name"]}; '
                 '`benchmark` of both would tell')
  return found


def choose(
    variants: Sequence[Variant], constraints: Constraints) -> Variant | None:
  """Returns the variant with the least cost that meets all constraints.

  Of those whose cost is within `ratios.NOISE` of the least it is the most
  accurate one. The first variant is the reference and meets the limit of
  accuracy.
  """
  fitting = {v['name']: cost(v, constraints.minimize) for v in variants
             if not failures(v, variants[0], constraints)
             and cost(v, constraints.minimize) is not None}
  least = min(fitting.values(), default=0.0)
  return min(
      (v for v in variants if fitting.get(v['name'], math.inf) <= least * (
          1.0 + ratios.NOISE)), default=None,
      key=lambda v: (drop(v, variants[0]), fitting[v['name']]))


def nearest(
    variants: Sequence[Variant], constraints: Constraints) -> Variant | None:
  """Returns the variant that misses fewest constraints, by the least."""
  known = [v for v in variants if drop(v, variants[0]) is not None]
  return min(known, default=None, key=lambda v: misses(
      v, variants[0], constraints))


def misses(
    variant: Variant, first: Variant, constraints: Constraints
) -> tuple[int, float, float]:
  """Returns how far a variant is from the constraints, less is nearer.

  It is how many of them it misses, the largest factor by which it exceeds one,
  and the points of accuracy that it loses.
  """
  return (len(failures(variant, first, constraints)),
          _excess(variant, first, constraints), drop(variant, first))


def _excess(
    variant: Variant, first: Variant, constraints: Constraints) -> float:
  """Returns how many times a limit is exceeded that is exceeded most."""
  lost = drop(variant, first) / max(constraints.max_drop, _LEAST_DROP)
  return max([1.0, lost] + [
      variant[field] / limit for limit, field in (
          (constraints.max_bytes, 'size_bytes'),
          (constraints.max_ms, 'median_ms')) if limit and variant.get(field)])


def dominators(variants: Sequence[Variant]) -> list[str | None]:
  """Returns, for every variant, the name of one that is better in all respects.

  Better means: not less accurate, not larger (plain and zipped), not slower,
  and better in one of them. Latencies within `ratios.NOISE` of each other count
  as equal, and only what both have is compared. None: it is on the front.
  """
  score = score_of(variants)
  return [next((other['name'] for other in variants
                if _dominates(other, variant, score)), None)
          for variant in variants]


def _dominates(a: Variant, b: Variant, score: str) -> bool:
  if a is b or score not in a or score not in b:
    return False
  gains = [a[score] - b[score]]
  for field in ('size_bytes', 'gzip_bytes', 'median_ms'):
    if a.get(field) and b.get(field):
      gain = (b[field] - a[field]) / b[field]
      noise = ratios.NOISE if field == 'median_ms' else 0.0
      gains.append(0.0 if abs(gain) <= noise else gain)
  return len(gains) > 1 and min(gains) >= 0.0 and max(gains) > 0.0


def sentence(variants: Sequence[Variant], constraints: Constraints) -> str:
  """Returns what the measurements come to, in one or two sentences."""
  first, score = variants[0], score_of(variants)
  if not score:
    return (f'{errors.counted(len(variants), "file")} measured; none of them '
            'was evaluated.')
  if score not in first:
    return (f'{first["name"]}, which the others are compared with, was not '
            'evaluated; give it to `evaluate`, too.')
  if len(variants) == 1 and choose(variants, constraints):
    return (f'{first["name"]} is the only file: {_percent(first[score])} '
            f'{SCORES[score]}.')
  what = {'size': 'smallest', 'flash': 'smallest',
          'latency': 'fastest', 'instructions': 'fastest'}[
              constraints.minimize]
  allowed = f'{constraints.max_drop:g} points of {first["name"]}'
  chosen = choose(variants, constraints)
  if chosen is None:
    near = nearest(variants, constraints)
    tail = f' Nearest is {near["name"]}: {compared(near, first)}.' if (
        near) else ''
    return f'No file meets the limits.{tail}'
  if chosen is first:
    return (f'{first["name"]} itself is the {what} file within {allowed}: '
            f'{_percent(first[score])} {SCORES[score]}.')
  # See `choose`: a more accurate file that costs as good as the least.
  least = min(cost(v, constraints.minimize) or math.inf for v in variants
              if not failures(v, first, constraints))
  if cost(chosen, constraints.minimize) > least:
    what = (f'most accurate file within {100 * ratios.NOISE:.0f} % of the '
            f'{what} and {allowed}')
  else:
    what = f'{what} file within {allowed}'
  return f'{chosen["name"]} is the {what}: {compared(chosen, first)}.'


def compared(variant: Variant, first: Variant) -> str:
  """Returns a variant's accuracy, sizes and latency beside the first one's."""
  parts = []
  score = score_of([variant])
  if score:
    parts.append(f'{_percent(variant[score])} {SCORES[score]} '
                 f'({difference(variant, first)})')
  for field, word in (('size_bytes', ''), ('gzip_bytes', ' zipped')):
    if variant.get(field) and first.get(field):
      parts.append(f'{variant[field] / 1024:,.0f} KiB{word} '
                   f'({variant[field] / first[field]:.2f}x)')
  if variant.get('median_ms') and variant.get('ratio') is not None:
    parts.append(f'{milliseconds(variant["median_ms"])} '
                 f'({ratios.Ratio.of_record(variant)})')
  return ', '.join(parts)


def difference(variant: Variant, first: Variant) -> str:
  """Returns the difference in points, with its interval if that is known."""
  lost = drop(variant, first)
  if lost is None:
    return 'not compared'
  text = f'{signed(-lost)} points'
  found = variant.get('difference')
  if found:
    text += (f', 95 % interval {signed(100 * found["low"])} to '
             f'{signed(100 * found["high"])}')
  return text


def parse_bytes(text: str) -> float:
  """Returns a size in bytes: `600000`, `600KiB`, `0.6MB`.

  Raises:
    UsageError: If the text is none.
  """
  found = _SIZE.fullmatch(text.strip())
  if not found or not float(found['number']):
    raise errors.UsageError(
        f'max_size: expected a number of bytes, or one with a unit of '
        f'{", ".join(u for u in _UNITS if u)}; received {text!r}')
  return float(found['number']) * _UNITS[found['unit'] or '']


def milliseconds(value: float) -> str:
  """Returns a latency with four digits or so, and its unit."""
  return f'{value:.3f} ms' if value < 10 else f'{value:.1f} ms'


def signed(points: float) -> str:
  """Returns a number with its sign, a real minus, and none for zero."""
  text = f'{abs(points):.2f}'
  if float(text) == 0.0:
    return text
  return f'{"+" if points > 0 else "−"}{text}'


def _percent(share: float) -> str:
  return f'{100 * share:.2f} %'
