"""What a variant is: the technique that made it, and how it is told apart.

Colors follow those of Okabe and Ito (Color Universal Design, 2008), darker on
white and lighter on black, so that people with any color vision tell them apart
(tests/report/test_families.py computes it); the shape of a marker says how the
weights are stored.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Family:
  """A technique, or techniques that are shown alike.

  Attributes:
    label: What it is called in legends.
    light: Its color on a white page.
    dark: Its color on a dark page.
  """
  label: str
  light: str
  dark: str


FAMILIES: dict[str, Family] = {
    'float': Family('float', '#848d96', '#7d8792'),
    'ptq': Family('post-training quantization', '#0072b2', '#56b4e9'),
    'qat': Family('quantization-aware training', '#d55e00', '#e8762c'),
    'pruning': Family('pruned', '#009e73', '#12b886'),
    'clustering': Family('clustered', '#7a2f63', '#f0b8de'),
    'channels': Family('fewer channels', '#5c5000', '#f0e442'),
    'combined': Family('pruned or clustered, then quantized', '#000000',
                       '#ffffff'),
}
# Formats without integers in training: what a float run becomes afterwards.
_AFTERWARDS = ('float16', 'dynamic_int8', 'int8', 'int16x8', 'mixed')
# How weights are stored -> marker.
MARKERS = {'float32': 'circle', 'float16': 'triangle', 'int8': 'square',
           'int4': 'diamond', 'dynamic_int8': 'cross', 'int16x8': 'hexagon'}


def of(blocks: Mapping[str, Mapping[str, Any]], file_format: str) -> str:
  """Returns the family of a file.

  Args:
    blocks: The techniques that its run switches on, by name, with their
      blocks.
    file_format: Its export format.
  """
  quantization = blocks.get('quantization')
  of_channels = (blocks.get('pruning') or {}).get('granularity') == 'channel'
  trained = quantization is not None and quantization.get('training', True)
  if 'clustering' in blocks or 'pruning' in blocks:
    if quantization is not None:
      return 'combined'
    if of_channels:
      return 'channels'
    return 'clustering' if 'clustering' in blocks else 'pruning'
  if quantization is not None:
    return 'qat' if trained else 'ptq'
  return 'ptq' if file_format in _AFTERWARDS else 'float'


def marker(variant: Mapping[str, Any]) -> str:
  """Returns the shape that stands for how the weights of a file are stored."""
  if 'int4' in (variant.get('kernel_types') or {}):
    return MARKERS['int4']
  return MARKERS.get(variant.get('format', ''), 'circle')
