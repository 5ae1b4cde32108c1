"""The file to ship meets every limit and costs least."""

import pytest

from modelgarden_opt import errors
from modelgarden_opt.report import choosing

FIRST = {'name': 'float', 'top_1_accuracy': 0.95, 'size_bytes': 1000,
         'gzip_bytes': 900, 'median_ms': 10.0}
SMALL = {'name': 'small', 'top_1_accuracy': 0.947, 'size_bytes': 250,
         'gzip_bytes': 200, 'median_ms': 6.0, 'ratio': 0.6,
         'difference': {'value': -0.003, 'low': -0.007, 'high': 0.001}}
FAST = {'name': 'fast', 'top_1_accuracy': 0.949, 'size_bytes': 500,
        'gzip_bytes': 400, 'median_ms': 3.0, 'ratio': 0.3}
TINY = {'name': 'tiny', 'top_1_accuracy': 0.90, 'size_bytes': 100,
        'gzip_bytes': 90, 'median_ms': 6.0}
VARIANTS = [FIRST, SMALL, FAST, TINY]


@pytest.mark.parametrize('limits, name', [
    ({}, 'small'), ({'minimize': 'latency'}, 'fast'),
    ({'max_drop': 5.0}, 'tiny'), ({'max_drop': 0.2}, 'fast'),
    ({'max_ms': 5.0}, 'fast'), ({'max_drop': 0.0}, 'float'),
    ({'max_bytes': 120.0}, None)])
def test_the_cheapest_file_that_meets_all_limits_is_chosen(limits, name):
  chosen = choosing.choose(VARIANTS, choosing.Constraints(**limits))
  assert (chosen and chosen['name']) == name


def test_costs_within_the_noise_are_decided_by_accuracy():
  better = {**SMALL, 'name': 'better', 'gzip_bytes': 204,
            'top_1_accuracy': 0.9475}
  chosen = choosing.choose([*VARIANTS, better], choosing.Constraints())
  assert chosen is better
  text = choosing.sentence([*VARIANTS, better], choosing.Constraints())
  assert text.startswith(
      'better is the most accurate file within 3 % of the smallest and 0.5 '
      'points of float: ')


def test_a_file_that_was_not_timed_is_not_chosen_for_its_latency():
  untimed = {k: v for k, v in FAST.items() if k != 'median_ms'}
  chosen = choosing.choose(
      [FIRST, untimed], choosing.Constraints(max_ms=20.0))
  assert chosen is FIRST


def test_limits_that_are_missed_are_told_with_numbers():
  found = choosing.failures(TINY, FIRST, choosing.Constraints(max_bytes=50.0))
  assert found == ['it loses 5.00 points, 0.5 are allowed',
                   'it has 100 bytes, 50 bytes are allowed']


def test_the_sentence_names_the_choice_and_its_interval():
  text = choosing.sentence(VARIANTS, choosing.Constraints())
  assert text.startswith('small is the smallest file within 0.5 points of '
                         'float: 94.70 % top-1 (−0.30 points, 95 % interval '
                         '−0.70 to +0.10)')
  text = choosing.sentence(VARIANTS, choosing.Constraints(max_bytes=120.0))
  assert text.startswith('No file meets the limits. Nearest is small')


def test_a_reference_that_was_not_evaluated_and_a_single_file_are_told():
  unknown = {k: v for k, v in FIRST.items() if k != 'top_1_accuracy'}
  limits = choosing.Constraints()
  assert choosing.sentence([unknown, SMALL], limits).startswith(
      'float, which the others are compared with, was not evaluated')
  assert choosing.sentence([SMALL], limits) == (
      'small is the only file: 94.70 % top-1.')


def test_an_interval_beyond_the_limit_is_told():
  found = choosing.margins(SMALL, FIRST, choosing.Constraints())
  assert 'the interval reaches beyond that' in found[0]


def test_a_latency_of_another_time_is_told():
  limits = choosing.Constraints(minimize='latency')
  assert len(choosing.margins(FAST, FIRST, limits)) == 1
  assert choosing.margins(TINY, FIRST, limits)[-1] == (
      'latency: it was not timed beside float; `benchmark` of both would tell')


def test_a_front_has_what_nobody_beats():
  assert choosing.dominators(VARIANTS) == [None] * 4
  slow = {**SMALL, 'name': 'slow', 'top_1_accuracy': 0.94, 'median_ms': 7.0}
  assert choosing.dominators([*VARIANTS, slow])[-1] == 'small'
  # 3 % of latency are noise, and equal files beat nobody.
  twin = {**FAST, 'name': 'twin', 'median_ms': 3.05}
  assert choosing.dominators([FAST, twin]) == [None, None]
  larger = {**twin, 'size_bytes': 501}
  assert choosing.dominators([FAST, larger]) == [None, 'fast']


@pytest.mark.parametrize('text, number', [
    ('600', 600), ('600KiB', 614400), ('0.5 MiB', 524288), ('2kB', 2000)])
def test_sizes_may_have_units(text, number):
  assert choosing.parse_bytes(text) == number


@pytest.mark.parametrize('text', ['', 'KiB', '3x', '-1', '1e3'])
def test_what_is_no_size_is_one_message(text):
  with pytest.raises(errors.UsageError, match='^max_size: '):
    choosing.parse_bytes(text)
