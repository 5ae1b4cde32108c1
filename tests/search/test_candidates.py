"""What is tried, and in which order."""

import types

import numpy as np
import pytest

from modelgarden_opt.search import candidates
from modelgarden_opt.search import harms as harms_lib
from modelgarden_opt.search import layers as layers_lib
from modelgarden_opt.search import space

_SPACE = space.Space()
_HARM = {('quantization', 8): 1e-4, ('quantization', 4): 0.02,
         ('pruning', 0.5): 0.01, ('pruning', 0.7): 0.04, ('pruning', 0.8): 0.1,
         ('pruning', 0.9): 0.4, ('clustering', 16): 0.005}


def _layers():
  rng = np.random.default_rng(0)
  shapes = {'conv': ('Conv2D', [3, 3, 3, 16]),
            'depthwise': ('DepthwiseConv2D', [3, 3, 16]),
            'expand': ('Conv2D', [1, 1, 16, 96]),
            'project': ('Conv2D', [1, 1, 96, 32]),
            'dense': ('Dense', [32, 10])}
  return [layers_lib.Layer(path, kind, rng.normal(size=shape).astype(
      np.float32), 10) for path, (kind, shape) in shapes.items()]


LAYERS = _layers()


def _records(scale):
  return [types.SimpleNamespace(
      layer=layer.path, technique=technique, parameter=parameter,
      divergence=harm * scale.get(layer.path, 1.0))
          for layer in LAYERS for (technique, parameter), harm in _HARM.items()]


_FAMILY = space.Family()


def _bisection(family=_FAMILY, scale=None):
  harms = harms_lib.Harms(_records(scale or {}))
  return harms, candidates.Bisection(
      LAYERS, family, _SPACE, harms, layers_lib.zipped)


def _harm(harms, candidate):
  return sum(harms.of(p, c) for p, c in candidate.layers.items())


def test_a_bisection_ends_beside_what_is_just_too_much():
  harms, bisection = _bisection()
  allowed, tried = 0.25, []
  while (found := bisection.next()) is not None:
    tried.append(found)
    bisection.tell(_harm(harms, found[0]) <= allowed)
  assert 2 < len(tried) < 20
  fitting = [cost for c, cost in tried if _harm(harms, c) <= allowed]
  assert fitting and min(fitting) < 1.05 * min(
      cost for _, cost in tried if cost >= min(fitting))
  # The cheapest one that fits does nearly as much harm as is allowed.
  best = min((t for t in tried if t[1] == min(fitting)), key=lambda t: t[1])[0]
  assert _harm(harms, best) > 0.8 * allowed


def test_sensitive_layers_are_spared():
  _, bisection = _bisection(scale={'expand': 50.0})
  candidate, _ = bisection.next()
  assert candidate.layers['project'].bits == 4
  spared = candidate.layers['expand']
  assert (spared.bits, spared.sparsity) == (8, 0.0)


@pytest.mark.parametrize('family,forbidden', [
    (space.Family(space.PER_TENSOR), 'clusters'),
    (space.Family(keep=0.5), 'sparsity')])
def test_what_does_not_go_with_a_family_is_not_tried(family, forbidden):
  _, bisection = _bisection(family)
  while (found := bisection.next()) is not None:
    assert not any(getattr(choice, forbidden)
                   for choice in found[0].layers.values())
    bisection.tell(len(found[0].counted()) % 2 == 0)


def test_what_nobody_measured_keeps_8_bits():
  harms = harms_lib.Harms(
      r for r in _records({}) if r.layer not in ('expand', 'dense'))
  bisection = candidates.Bisection(
      LAYERS, space.Family(), _SPACE, harms, layers_lib.stored)
  candidate, _ = bisection.next()
  assert candidate.layers['expand'] == space.Choice() == (
      candidate.layers['dense'])


def test_uniform_candidates_spare_the_first_layer_and_depthwise_kernels():
  found = {c.name: c for c in candidates.uniform(LAYERS, _SPACE, True)}
  assert list(found)[:4] == [
      '8 bits', '4 bits', '4 bits, one scale a kernel', '8 bits, 80 % zeros']
  four = found['4 bits, one scale a kernel']
  assert four.family == space.Family(space.PER_TENSOR, 1.0, True)
  assert four.counted() == {'4 bits': 4, '8 bits': 1}
  zeros = found['8 bits, 80 % zeros'].layers
  assert zeros['depthwise'] == space.Choice()
  assert zeros['expand'] == space.Choice(sparsity=0.8)


def test_a_space_without_4_bits_and_zeros_has_fewer():
  narrow = space.Space(bits=(8,), sparsities=(), clusters=(), keeps=(1.0, 0.5))
  names = [c.name for c in candidates.uniform(LAYERS, narrow, False)]
  assert names == ['8 bits', '8 bits, 50 % of the FLOPs']


def test_everything_in_the_space_is_tried():
  whole = space.Space(bits=(32, 8, 4), keeps=(1.0, 0.5))
  harms = harms_lib.Harms(_records({}))
  tried, families = [], list(candidates.families(whole, False))
  for family in families:
    for fits in (True, False):  # Ever more harm, and ever less.
      bisection = candidates.Bisection(
          LAYERS, family, whole, harms, layers_lib.zipped)
      while (found := bisection.next()) is not None:
        tried.append(found[0])
        bisection.tell(fits)
  choices = [c for candidate in tried for c in candidate.layers.values()]
  assert {c.bits for c in choices} == {32, 8, 4}
  assert {c.sparsity for c in choices} >= {0.0, 0.5, 0.9}
  assert {c.clusters for c in choices} == {0, 16}
  assert any(c.sparsity and c.clusters for c in choices)
  assert {c.family.keep for c in tried} == {1.0, 0.5}
  assert {c.family.granularity for c in tried} == {
      space.PER_CHANNEL, space.PER_TENSOR}
