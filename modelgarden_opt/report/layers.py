"""Kernel by kernel: what a file stores, and what every layer costs."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any

from markupsafe import Markup

from modelgarden_opt.report import html

# Bits of a stored value by type.
_BITS = {'float32': 32, 'float16': 16, 'int8': 8, 'uint8': 8, 'int16': 16,
         'int32': 32, 'int4': 4}
# Names that the converter gives to constants, which say nothing.
_UNNAMED = ('arith.constant', 'tfl.pseudo_qconst', 'tfl.pseudo_const')
# Ops that read kernels: the n-th of a file reads its n-th kernel.
_KERNEL_OPS = ('CONV_2D', 'DEPTHWISE_CONV_2D', 'FULLY_CONNECTED',
               'TRANSPOSE_CONV')

Kernel = Mapping[str, Any]


def bits(kernel: Kernel) -> int:
  """Returns the bits of a stored weight."""
  return _BITS.get(kernel['dtype'], 32)


def size(kernel: Kernel) -> int:
  """Returns the number of weights."""
  return math.prod(kernel['shape'])


def layer(name: str) -> str:
  """Returns the path of the layer that a kernel belongs to, '' if unknown.

  A tensor's name lists the TensorFlow ops that became it; the model itself is
  the first part of a path.
  """
  first = name.split(';')[0]
  if first.startswith(_UNNAMED) or '/' not in first:
    return ''
  parts = first.split('/')[:-1]
  return '/'.join(parts[1:] if len(parts) > 1 else parts)


def names(
    kernels: Sequence[Kernel], others: Iterable[Sequence[Kernel]] = ()
) -> list[str]:
  """Returns the names of kernels for people, each of them once.

  The converter drops the names of many float kernels: those are taken from
  another file of the same network, which has as many kernels of the same sizes.

  Args:
    kernels: The kernels of one file.
    others: Those of other files.
  """
  sizes = [size(k) for k in kernels]
  found = [layer(k['name']) for k in kernels]
  for other in others:
    if all(found):
      break
    if [size(k) for k in other] == sizes:
      found = [a or layer(k['name']) for a, k in zip(found, other)]
  shown, seen = [], set()
  for index, (name, kernel) in enumerate(zip(found, kernels)):
    name = name or f'{kernel["op"].lower()} {index}'
    shown.append(name if name not in seen else f'{name} ({index})')
    seen.add(name)
  return shown


def sqnr_of(
    analysis: Mapping[str, Any], kernels: Sequence[Kernel],
    shown: Sequence[str],
) -> dict[str, float]:
  """Returns SQNR in dB by name of a kernel, from the JSON of `analyze`.

  An analysis of files names tensors. One of a run names layers: its n-th kernel
  is the n-th of the file, if all of them have as many weights.

  Args:
    analysis: The JSON.
    kernels: The kernels of a file.
    shown: Their names.
  """
  records = [r for r in analysis['layers'] if 'sqnr_db' in r and 'layer' in r]
  found = {}
  for record in records:
    for name in (record['layer'], layer(record['layer'])):
      found.setdefault(name, record['sqnr_db'])
  of_run = sorted((r for r in records if 'weights' in r),
                  key=lambda record: record.get('order', 0))
  if of_run and [r['weights'] for r in of_run] == [size(k) for k in kernels]:
    found = {name: r['sqnr_db'] for name, r in zip(shown, of_run)}
  return found


def times(per_op: Mapping[str, Any] | None, number: int) -> list[float | None]:
  """Returns milliseconds by kernel from the `per_op` of a benchmark record."""
  ops = [o for o in (per_op or {}).get('ops', ()) if o['op'] in _KERNEL_OPS]
  if len(ops) != number:
    return [None] * number
  return [o['milliseconds'] for o in ops]


def table(
    kernels: Sequence[Kernel], shown: Sequence[str], caption: str,
    milliseconds: Sequence[float | None] = (),
    sqnr: Mapping[str, float] | None = None,
) -> Markup:
  """Returns the kernels of a file as a table with bars.

  Args:
    kernels: Records of `export` or `inspect`.
    shown: Their names.
    caption: What the table shows.
    milliseconds: Time of their ops, where it is known.
    sqnr: Signal to quantization noise ratio in dB by name.
  """
  sizes = [size(k) * bits(k) / 8192 for k in kernels]
  milliseconds = milliseconds or [None] * len(kernels)
  column = html.Column
  columns = [
      (column('layer', number=False), [html.Cell(n) for n in shown]),
      (column('op', number=False), [html.Cell(k['op']) for k in kernels]),
      (column('shape', number=False, help='as the file stores it'),
       [html.Cell('×'.join(map(str, k['shape'])), size(k)) for k in kernels]),
      (column('bits'), [html.number(bits(k), '{}', 32) for k in kernels]),
      (column('KiB', help='of the weights, stored densely'),
       [html.number(s, '{:,.2f}', max(sizes)) for s in sizes]),
      (column('zeros', help='share of weights that are zero'),
       [html.number(100 * k['sparsity'], '{:.1f} %', 100) for k in kernels]),
      (column('distinct', help='distinct values of the whole kernel'),
       [html.number(k['distinct']) for k in kernels]),
      (column('of a channel', help='most distinct values of an output channel'),
       [html.number(k['distinct_per_channel'], '{:,}', 2 ** min(8, bits(k)))
        if 'distinct_per_channel' in k else html.number(None)
        for k in kernels]),
      (column('scales', help='scales of its integers'),
       [html.number(k.get('num_scales') or None) for k in kernels]),
      (column('N:M', number=False),
       [html.Cell('{}:{}'.format(*k['m_by_n']) if k.get('m_by_n') else '–')
        for k in kernels]),
      (column('ms', help="by LiteRT's profiler"),
       [html.number(m, '{:.4f}', max(x or 0 for x in milliseconds))
        for m in milliseconds]),
      (column('SQNR dB', help='of the output against float, on real samples'),
       [html.number((sqnr or {}).get(n), '{:.1f}', 60) for n in shown]),
  ]
  kept = [(c, cells) for c, cells in columns
          if any(cell.text != '–' for cell in cells)]
  return html.table(html.Table(
      caption, [c for c, _ in kept],
      [html.Row(cells) for cells in zip(*(cells for _, cells in kept))]))


def panel(
    exports: Mapping[str, Mapping[str, Any]],
    per_op: Mapping[str, Mapping[str, Any]] | None = None,
    analyses: Mapping[str, Mapping[str, Any]] | None = None,
    unfolded: str = '',
) -> Markup:
  """Returns the kernels of several files, one of them unfolded.

  Args:
    exports: Records of `export` by variant.
    per_op: Times of ops by variant.
    analyses: JSON of `analyze` by variant.
    unfolded: Name of the variant that is shown at once.
  """
  all_kernels = [e['kernels'] for e in exports.values()]
  blocks = []
  for name, export in exports.items():
    kernels = export['kernels']
    if not kernels:
      continue
    weights = sum(map(size, kernels))
    stored = sum(size(k) * bits(k) for k in kernels) / 8192
    zeros = sum(size(k) * k['sparsity'] for k in kernels) / weights
    shown = names(kernels, all_kernels)
    analysis = (analyses or {}).get(name)
    blocks.append((
        '', name, f'{len(kernels)} kernels, {weights:,} weights, '
        f'{stored:,.0f} KiB, {zeros:.1%} zeros', name == unfolded,
        table(kernels, shown, f'Kernels of {name}',
              times((per_op or {}).get(name), len(kernels)),
              analysis and sqnr_of(analysis, kernels, shown))))
  return html.folded(blocks)
