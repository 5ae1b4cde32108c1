"""Limits that measured variants have to keep: a gate for continuous testing.

    previous: kept/results.json      # optional: a report's results.json
    variants:
      '*':
        agreement: {min: 0.98}
      qat_int8:
        drop: {max: 0.5}             # points below the first variant
        median_ms: {max: 0.2, max_increase: 5%}
        size_bytes: {max_increase: 0%}

A field is any number of a variant in results.json, or `drop`. An increase or a
decrease is meant against the variant of this name in `previous`: a number in
the field's unit, or a percentage of what it was.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import fnmatch
import math
import os
from typing import Any

import yaml

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.report import choosing

_LIMITS = ('min', 'max', 'max_increase', 'max_decrease')
_FIELDS = ('previous', 'variants')

Variant = Mapping[str, Any]


def load(path: str) -> dict[str, Any]:
  """Returns the content of a file of limits.

  Raises:
    UsageError: One message with everything that is wrong with it.
  """
  try:
    values = yaml.safe_load(files.read_bytes(path))
  except OSError as e:
    raise errors.UsageError(f'check: {path!r} cannot be read: {e.strerror}'
                            ) from None
  except yaml.YAMLError as e:
    raise errors.UsageError(f'check: {path!r} is not YAML: {e}') from None
  problems = _problems(values)
  if problems:
    raise errors.UsageError('\n'.join(f'check: {path}: {p}' for p in problems))
  previous = values.get('previous')
  if previous:  # Beside the file, as a path in a repository is.
    values['previous'] = files.read_json(
        os.path.join(os.path.dirname(path), previous))
  return values


def _problems(values: Any) -> list[str]:
  if not isinstance(values, Mapping) or not values.get('variants'):
    return ['expected `variants:` with names and their limits']
  problems = [f'{name}: no such field{errors.nearest(str(name), _FIELDS)}'
              for name in values if name not in _FIELDS]
  if not isinstance(values['variants'], Mapping):
    return [*problems, 'variants: expected `name: limits` pairs']
  for name, fields in values['variants'].items():
    if not isinstance(fields, Mapping):
      problems.append(f'variants.{name}: expected `field: limits` pairs')
      continue
    for field, limits in fields.items():
      at = f'variants.{name}.{field}'
      if not isinstance(limits, Mapping) or not limits:
        problems.append(f'{at}: expected some of {", ".join(_LIMITS)}, '
                        f'received {limits!r}')
        continue
      for limit, value in limits.items():
        if limit not in _LIMITS:
          problems.append(f'{at}.{limit}: no such limit'
                          f'{errors.nearest(str(limit), _LIMITS)}')
        elif _amount(value, 1.0) is None:
          problems.append(f'{at}.{limit}: expected a number, received '
                          f'{value!r}')
        elif limit.startswith('max_') and not values.get('previous'):
          problems.append(f'{at}.{limit}: needs `previous:`')
        elif limit in ('min', 'max') and isinstance(value, str):
          problems.append(f'{at}.{limit}: expected a number, received '
                          f'{value!r}')
  return problems


def _amount(value: Any, of: float) -> float | None:
  """Returns a number, or so many percent of another one; None for neither."""
  share = 1.0
  if isinstance(value, str) and value.endswith('%'):
    try:
      value, share = float(value[:-1]), abs(of) / 100.0
    except ValueError:
      return None
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    return None
  return value * share if math.isfinite(value) else None


def check(values: Mapping[str, Any], variants: Sequence[Variant]) -> list[str]:
  """Returns what is not kept, one line each.

  Args:
    values: What `load` returned.
    variants: Records of `results.collect`.

  Raises:
    UsageError: If a limit is for a variant or a field that is not there.
  """
  names = [v['name'] for v in variants]
  before = {v['name']: v for v in (values.get('previous') or {}).get(
      'variants', ())}
  found = []
  for pattern, fields in values['variants'].items():
    matching = [v for v in variants if fnmatch.fnmatchcase(
        v['name'], str(pattern))]
    if not matching:
      raise errors.UsageError(
          f'check: variants.{pattern}: no such variant'
          f'{errors.nearest(str(pattern), names)}')
    for variant in matching:
      for field, limits in fields.items():
        found += _broken(variant, variants[0], before, field, limits)
  return found


def _value(variant: Variant, first: Variant, field: str) -> float:
  value = choosing.drop(variant, first) if field == 'drop' else (
      variant.get(field))
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    known = [k for k, v in variant.items() if isinstance(v, (int, float))]
    raise errors.UsageError(
        f'check: variants.{variant["name"]}.{field}: was not measured'
        f'{errors.nearest(field, [*known, "drop"])}')
  return float(value)


def _broken(
    variant: Variant, first: Variant, before: Mapping[str, Variant],
    field: str, limits: Mapping[str, Any],
) -> list[str]:
  value, name = _value(variant, first, field), variant['name']
  # Written so that a value that is not a number keeps no limit.
  found = []
  if 'min' in limits and not value >= limits['min']:
    found.append(f'{name}: {field} is {value:.6g}, at least '
                 f'{limits["min"]:g} is allowed')
  if 'max' in limits and not value <= limits['max']:
    found.append(f'{name}: {field} is {value:.6g}, at most '
                 f'{limits["max"]:g} is allowed')
  for limit, sign in (('max_increase', 1), ('max_decrease', -1)):
    if limit not in limits:
      continue
    if name not in before:
      raise errors.UsageError(
          f'check: variants.{name}.{field}.{limit}: `previous` has no variant '
          f'{name!r}{errors.nearest(name, before)}')
    was = _value(before[name], next(iter(before.values())), field)
    if not sign * (value - was) <= _amount(limits[limit], was) + 1e-12:
      found.append(f'{name}: {field} went from {was:.6g} to {value:.6g}, '
                   f'{limit} is {limits[limit]}')
  return found
