"""Techniques are told apart by anyone, and by what a run really did."""

import itertools

import numpy as np
import pytest

from modelgarden_opt.report import families

# Linear RGB as people without one kind of cone see it: Vienot, Brettel and
# Mollon, Color Research and Application 24 (1999).
_VISION = {
    'all': np.eye(3),
    'protanopia': np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0],
                            [0.00401, -0.00401, 1]]),
    'deuteranopia': np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0],
                              [-0.02234, 0.02234, 1]]),
}
# To CIE XYZ of sRGB (IEC 61966-2-1).
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722],
                 [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])


def _linear(color):
  value = np.array([int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)])
  return np.where(value <= 0.04045, value / 12.92,
                  ((value + 0.055) / 1.055)**2.4)


def _lab(linear):
  scaled = _XYZ @ np.clip(linear, 0, 1) / _WHITE
  f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
  return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize('vision', _VISION)
@pytest.mark.parametrize('page', ['light', 'dark'])
def test_no_two_colors_look_alike(page, vision):
  seen = {name: _lab(_VISION[vision] @ _linear(getattr(family, page)))
          for name, family in families.FAMILIES.items()}
  # A difference of two units of CIELAB is just seen; markers are small.
  close = {pair: round(float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])))
           for pair in itertools.combinations(seen, 2)}
  assert {pair: d for pair, d in close.items() if d < 15} == {}


@pytest.mark.parametrize('page, background', [
    ('light', '#ffffff'), ('dark', '#0f1317')])
def test_colors_stand_out_from_the_page(page, background):
  def luminance(color):
    return float(np.array([0.2126, 0.7152, 0.0722]) @ _linear(color))

  for name, family in families.FAMILIES.items():
    low, high = sorted(map(luminance, (getattr(family, page), background)))
    # What WCAG 2.1 asks of graphics (1.4.11).
    assert (high + 0.05) / (low + 0.05) >= 3, name


@pytest.mark.parametrize('blocks, form, family', [
    ({}, 'float32', 'float'), ({}, 'int8', 'ptq'), ({}, 'float16', 'ptq'),
    ({'quantization': {}}, 'int8', 'qat'),
    ({'quantization': {'training': False}}, 'int8', 'ptq'),
    ({'pruning': {}}, 'int8', 'pruning'),
    ({'pruning': {'granularity': 'channel'}}, 'float32', 'channels'),
    ({'pruning': {}, 'clustering': {}}, 'float32', 'clustering'),
    ({'pruning': {}, 'quantization': {}}, 'int8', 'combined')])
def test_a_family_is_what_the_run_did(blocks, form, family):
  assert families.of(blocks, form) == family


def test_files_with_kernels_of_four_bits_have_a_shape_of_their_own():
  assert families.marker(
      {'format': 'int8', 'kernel_types': {'int8': 1, 'int4': 5}}) == 'diamond'
  assert families.marker({'format': 'int8'}) == 'square'
