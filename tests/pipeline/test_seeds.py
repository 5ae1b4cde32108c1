"""Stages that are repeated with several seeds."""

import pytest

from modelgarden_opt import errors
from modelgarden_opt.pipeline import stages


def _parse(names, **blocks):
  return stages.parse({'model': 'mobilenet_v2', 'stages': names, **blocks})


def test_a_chain_is_repeated_seed_by_seed():
  trainings = _parse(
      ['float', 'prune', 'qat'], prune={'seeds': [1, 2]},
      qat={'seeds': [1, 2]}).trainings
  assert [(t.name, t.source, t.experiment) for t in trainings] == [
      ('float', None, 'mobilenet_v2'),
      ('prune_seed1', 'float', 'mobilenet_v2_pruning'),
      ('prune_seed2', 'float', 'mobilenet_v2_pruning'),
      ('qat_seed1', 'prune_seed1', 'mobilenet_v2_pqat'),
      ('qat_seed2', 'prune_seed2', 'mobilenet_v2_pqat')]
  assert [t.overrides['task']['train_data']['seed'] for t in trainings[1:]] == [
      1, 2, 1, 2]


def test_stages_after_a_repeated_one_may_start_from_another():
  trainings = _parse(
      ['float', 'zeros', 'qat'],
      zeros={'kind': 'prune', 'seeds': [3], 'task': {
          'pruning': {'final_sparsity': 0.9}, 'train_data': {'seed': 7}}},
      qat={'from': 'float'}).trainings
  assert [(t.name, t.source) for t in trainings] == [
      ('float', None), ('zeros_seed3', 'float'), ('qat', 'float')]
  assert trainings[1].overrides['task'] == {
      'pruning': {'final_sparsity': 0.9}, 'train_data': {'seed': 3}}


@pytest.mark.parametrize('seeds', [3, [], [1, 1], [-1], ['a'], [True], None])
def test_seeds_are_different_integers(seeds):
  with pytest.raises(errors.UsageError, match='prune.seeds'):
    _parse(['float', 'prune'], prune={'seeds': seeds})


def test_a_stage_cannot_start_from_all_seeds_at_once():
  with pytest.raises(errors.UsageError, match=(
      r'qat.seeds: must be those of prune, \[1, 2\], from which it starts')):
    _parse(['float', 'prune', 'qat'], prune={'seeds': [1, 2]})
