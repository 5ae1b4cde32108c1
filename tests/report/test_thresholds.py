"""Limits are checked as a whole, and a regression is told with numbers."""

import json

import pytest
import yaml

from modelgarden_opt import errors
from modelgarden_opt.report import thresholds

VARIANTS = [
    {'name': 'float', 'top_1_accuracy': 0.95, 'median_ms': 2.0,
     'size_bytes': 1000},
    {'name': 'int8', 'top_1_accuracy': 0.94, 'median_ms': 1.0,
     'size_bytes': 300}]


def _check(tmp_path, variants, **more):
  path = tmp_path / 'limits.yaml'
  path.write_text(yaml.safe_dump({'variants': variants, **more}))
  return thresholds.check(thresholds.load(str(path)), VARIANTS)


@pytest.mark.parametrize('limits, broken', [
    ({'int8': {'drop': {'max': 1.5}}}, []),
    ({'int8': {'drop': {'max': 0.5}}},
     ['int8: drop is 1, at most 0.5 is allowed']),
    ({'*': {'top_1_accuracy': {'min': 0.945}}},
     ['int8: top_1_accuracy is 0.94, at least 0.945 is allowed']),
    ({'int8': {'median_ms': {'min': 0.5, 'max': 0.9}}},
     ['int8: median_ms is 1, at most 0.9 is allowed'])])
def test_limits_hold_for_the_variants_that_they_name(limits, broken, tmp_path):
  assert _check(tmp_path, limits) == broken


@pytest.mark.parametrize('limits, broken', [
    ({'size_bytes': {'max_increase': '10%'}},
     ['int8: size_bytes went from 250 to 300, max_increase is 10%']),
    ({'size_bytes': {'max_increase': '20%'}}, []),
    ({'top_1_accuracy': {'max_decrease': 0.001}},
     ['int8: top_1_accuracy went from 0.95 to 0.94, max_decrease is 0.001']),
    ({'top_1_accuracy': {'max_decrease': 0.02}}, [])])
def test_changes_are_those_from_a_kept_result(limits, broken, tmp_path):
  (tmp_path / 'kept.json').write_text(json.dumps({'variants': [
      {**VARIANTS[1], 'size_bytes': 250, 'top_1_accuracy': 0.95}]}))
  assert _check(tmp_path, {'int8': limits}, previous='kept.json') == broken


def test_a_value_that_is_not_a_number_keeps_no_limit():
  broken = [VARIANTS[0], {**VARIANTS[1], 'top_1_accuracy': float('nan')}]
  for limits in ({'min': 0.5}, {'max': 1.0}):
    found = thresholds.check(
        {'variants': {'int8': {'top_1_accuracy': limits}}}, broken)
    assert len(found) == 1 and 'is nan' in found[0]


@pytest.mark.parametrize('variants, message', [
    ({'int8': {'drop': {'max': float('nan')}}}, 'expected a number'),
    ({'int9': {'drop': {'max': 1}}},
     "variants.int9: no such variant; did you mean 'int8'"),
    ({'int8': {'median': {'max': 1}}},
     "median: was not measured; did you mean 'median_ms'"),
    ({'int8': {'drop': {'most': 1}}}, 'drop.most: no such limit'),
    ({'int8': {'drop': {'max': 'x'}}}, "expected a number, received 'x'"),
    ({'int8': {'drop': {'max': '5%'}}}, "expected a number, received '5%'"),
    ({'int8': {'drop': {'max_increase': 1}}}, 'needs `previous:`'),
    ({'int8': {'drop': 1}}, 'expected some of min, max'),
    ({'int8': 1}, 'expected `field: limits` pairs'), ({}, 'expected `variants'),
    ([1], 'expected `name: limits` pairs')])
def test_mistakes_in_the_file_are_told(variants, message, tmp_path):
  with pytest.raises(errors.UsageError, match='check: ') as e:
    _check(tmp_path, variants)
  assert message in str(e.value)


def test_all_mistakes_are_told_at_once(tmp_path):
  with pytest.raises(errors.UsageError) as e:
    _check(tmp_path, {'a': 1, 'b': {'c': {'most': 1}}}, other=2)
  assert len(str(e.value).splitlines()) == 3
