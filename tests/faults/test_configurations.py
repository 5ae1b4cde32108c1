"""Mutated configurations end in one message, or are right: a sample."""

import collections
import random

import pytest

from modelgarden_opt.configs.schema import stored
from tests.faults import configurations
from tests.faults import mutations

_NUMBER = 1_500


@pytest.fixture(scope='module')
def outcomes():
  """What happened to a sample, see `python -m tests.faults.configurations`."""
  return list(configurations.outcomes(_NUMBER, seed=11))


def test_none_ends_in_a_traceback_has_no_end_or_is_silently_accepted(outcomes):
  wrong = [outcome for outcome in outcomes if outcome.outcome not in (
      configurations.TOLD, configurations.ACCEPTED)]
  assert not wrong, wrong[0]


def test_messages_name_the_file_and_are_short(outcomes):
  told = [outcome for outcome in outcomes
          if outcome.outcome == configurations.TOLD]
  assert len(told) > _NUMBER / 2
  for outcome in told:
    for line in outcome.message.splitlines():
      assert line.startswith('m.yaml') and len(line) < 3_000, line
    if outcome.mutated.breaks and '[' not in outcome.mutated.field:
      last = outcome.mutated.field.rpartition('.')[2]
      assert last in outcome.message


def test_mutations_reach_every_kind_of_fault(outcomes):
  kinds = collections.Counter(outcome.mutated.kind for outcome in outcomes)
  assert {'type', 'null', 'range', 'choice', 'list', 'name', 'repeat'} <= (
      kinds.keys())
  assert sum(bool(o.mutated.breaks) for o in outcomes) > _NUMBER / 4


def test_a_seed_repeats_them():
  experiment = stored.experiment('mobilenet_v2_qat')
  made = [mutations.mutate(random.Random(3), experiment, {
      'trainer': {'train_steps': 5}}) for _ in range(2)]
  assert made[0] == made[1]
