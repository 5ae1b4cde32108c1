"""The first half of a report: what to ship, the table, the fronts."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
from typing import Any

from markupsafe import Markup

from modelgarden_opt import ratios
from modelgarden_opt.report import choosing
from modelgarden_opt.report import families
from modelgarden_opt.report import html
from modelgarden_opt.report import svg

Variant = Mapping[str, Any]
_Z = 1.959964
# Costs against which accuracy is drawn: field, title, unit of the axis.
_COSTS = (
    ('gzip_bytes', 'zipped size, KiB', 1024),
    ('size_bytes', 'file size, KiB', 1024),
    ('median_ms', 'latency, ms', 1),
)


def anchor(variant: Variant) -> str:
  """Returns the anchor of a variant's commands."""
  return 'made-' + ''.join(
      c if c.isalnum() and c.isascii() else f'-{ord(c):x}-'
      for c in variant['name'])


def interval(share: float, number: int) -> tuple[float, float]:
  """Returns the 95 % interval of a share of `number` images (Wilson, 1927)."""
  center = (share + _Z**2 / (2 * number)) / (1 + _Z**2 / number)
  half = _Z / (1 + _Z**2 / number) * math.sqrt(
      share * (1 - share) / number + _Z**2 / (4 * number**2))
  return center - half, center + half


def lead(
    variants: Sequence[Variant], constraints: choosing.Constraints) -> Markup:
  """Returns the summary, and what to ship in large figures."""
  chosen = choosing.choose(variants, constraints)
  return html.render(
      'lead', sentence=choosing.sentence(variants, constraints).replace(
          ' %', '\xa0%').replace(' KiB', '\xa0KiB'),
      tiles=_tiles(chosen, variants[0]) if chosen is not None else [],
      family=chosen['family'] if chosen is not None else '')


def _tiles(chosen: Variant, first: Variant) -> list[tuple[str, str, str]]:
  """Returns title, figure and what it means beside the first variant."""
  score = choosing.score_of([chosen])
  found = [(choosing.SCORES[score], f'{100 * chosen[score]:.2f} %',
            'the reference' if chosen is first
            else choosing.difference(chosen, first))]
  for field, title in (('size_bytes', 'File'), ('gzip_bytes', 'Zipped')):
    if chosen.get(field) and first.get(field):
      found.append((title, f'{chosen[field] / 1024:,.0f} KiB',
                    f'{chosen[field] / first[field]:.2f} of '
                    f'{first[field] / 1024:,.0f} KiB'))
  if chosen.get('median_ms'):
    ratio = (str(ratios.Ratio.of_record(chosen)) if chosen.get('ratio')
             and chosen is not first else '')
    threads = chosen.get('num_threads', 1)
    found.append((f'Latency, {threads} thread{"s" if threads > 1 else ""}',
                  choosing.milliseconds(chosen['median_ms']), ratio))
  if chosen.get('agreement') is not None:
    found.append(('Agreement with Keras', f'{100 * chosen["agreement"]:.2f} %',
                  'of the images have one class for both'))
  return found


def table(
    variants: Sequence[Variant], constraints: choosing.Constraints
) -> Markup:
  """Returns the table of all variants."""
  chosen = choosing.choose(variants, constraints)
  scale = _scale(variants)
  columns = [c for c in _columns(variants, scale) if any(
      c[1](v).text != '–' for v in variants)]
  rows = [
      html.Row(
          [cell(v) if i else _name(v, v is chosen, v is variants[0])
           for i, (_, cell) in enumerate(columns)],
          key=v['name'], family=v['family'],
          style=' '.join(filter(None, (
              'dominated' if v.get('dominated_by') else '',
              'chosen' if v is chosen else ''))))
      for v in variants]
  return html.table(html.Table(
      'Accuracy, size and latency of every variant',
      [c for c, _ in columns], rows, filtered=len(variants) > 3))


def _name(variant: Variant, chosen: bool, first: bool) -> html.Cell:
  tag = Markup()
  if first:
    tag += Markup(' <span class="tag">reference</span>')
  if chosen:
    tag += Markup(' <span class="tag ship">ship</span>')
  other = variant.get('dominated_by')
  if other:
    tag += Markup(' <span class="tag" title="{} is better in every respect">'
                  'dominated</span>').format(other)
  text = svg.marker(families.marker(variant)) + Markup(
      '<a href="#{}">{}</a>').format(anchor(variant), variant['name']) + tag
  return html.Cell(text, style='name')


def _columns(variants: Sequence[Variant], scale: float):
  """Returns columns with the function that makes their cell of a variant."""
  first, score = variants[0], choosing.score_of(variants)
  name = choosing.SCORES.get(score, '')
  most = {field: max((v.get(field) or 0 for v in variants), default=0)
          for field in ('size_bytes', 'gzip_bytes', 'median_ms')}
  column = html.Column
  return [
      (column('variant', number=False), lambda v: html.Cell(v['name'])),
      (column(name, help='on the images named below the table'),
       lambda v: _accuracy(v, score)),
      (column('points', help='difference from the first variant in points, '
              'with its 95 % confidence interval; paired image by image'),
       lambda v: _difference(v, first, scale)),
      (column('top-5'), lambda v: _percent(v.get('top_5_accuracy'))),
      (column('size KiB', help='of the file as it is'),
       lambda v: _kib(v.get('size_bytes'), most['size_bytes'])),
      (column('zipped KiB', help='gzip, level 9'),
       lambda v: _kib(v.get('gzip_bytes'), most['gzip_bytes'])),
      (column('times smaller', help='size of the first file, divided by the '
              'zipped size of this one'),
       lambda v: html.number(
           first['size_bytes'] / v['gzip_bytes'] if v.get('gzip_bytes')
           and first.get('size_bytes') else None, '{:.1f}')),
      (column('ms', help='median latency'), lambda v: html.number(
          v.get('median_ms'), '{:.3f}', most['median_ms'])),
      (column('latency ratio', help='median of paired ratios to the first '
              'file, with its 95 % confidence interval'), _ratio),
      (column('p90 ms'), lambda v: html.number(v.get('p90_ms'), '{:.3f}')),
      (column('zeros', help='share of zeros in all kernels'),
       lambda v: _percent(v.get('sparsity'), bar=True)),
      (column('distinct', help='distinct weights of the median kernel'),
       lambda v: html.number(v.get('distinct'))),
      (column('weights', number=False, help='kernels by type'),
       lambda v: html.Cell(', '.join(
           f'{n} {t}' for t, n in v.get('kernel_types', {}).items()) or '–')),
      (column('agreement', help='share of images for which the file and its '
              'Keras model predict one class'),
       lambda v: _percent(v.get('agreement'))),
      (column('partitions', help='parts that the XNNPACK delegate takes; 1 is '
              'best'),
       lambda v: html.number(v.get('num_delegate_partitions'))),
  ]


def _percent(share: float | None, bar: bool = False) -> html.Cell:
  return html.number(None if share is None else 100 * share, '{:.2f} %',
                     100 if bar else None)


def _accuracy(variant: Variant, score: str) -> html.Cell:
  """Returns the score; accuracy says its own interval when pointed at."""
  cell = _percent(variant.get(score))
  number = variant.get('num_examples')
  if score != 'top_1_accuracy' or score not in variant or not number:
    return cell
  low, high = interval(variant[score], number)
  return dataclasses.replace(cell, title=(
      f'95 % interval {100 * low:.2f} to {100 * high:.2f}, of {number:,} '
      'images'))


def _kib(size: int | None, most: int) -> html.Cell:
  return html.number(None if size is None else size / 1024, '{:,.0f}',
                     most / 1024)


def _ratio(variant: Variant) -> html.Cell:
  if variant.get('ratio') is None:
    return html.number(None)
  ratio = ratios.Ratio.of_record(variant)
  return html.Cell(str(ratio), ratio.value)


def _scale(variants: Sequence[Variant]) -> float:
  """Returns the largest difference that glyphs of intervals show, in points.
  """
  ends = [100 * abs(v['difference'][k]) for v in variants
          if v.get('difference') for k in ('low', 'high')]
  return min(max(ends, default=1.0), 5.0)


def _difference(variant: Variant, first: Variant, scale: float) -> html.Cell:
  lost = choosing.drop(variant, first)
  if variant is first or lost is None:
    return html.number(None)
  found = variant.get('difference')
  text, style = Markup(choosing.signed(-lost)), ''
  if found:
    if found['high'] < 0 or found['low'] > 0:
      style = 'worse' if found['high'] < 0 else 'better'
    text += Markup(
        ' <small>[{}, {}]</small>').format(
            choosing.signed(100 * found['low']),
            choosing.signed(100 * found['high'])) + svg.interval(
                -lost, 100 * found['low'], 100 * found['high'], scale)
  return html.Cell(text, -lost, style=style)


def charts(
    variants: Sequence[Variant], constraints: choosing.Constraints) -> Markup:
  """Returns accuracy against every cost, with the front; empty if unknown."""
  score = choosing.score_of(variants)
  drawn = [_chart(variants, score, *cost, constraints) for cost in _COSTS
           if sum(bool(v.get(cost[0]) and score in v) for v in variants) > 1]
  if not drawn:
    return Markup()
  used = {k: f for k, f in families.FAMILIES.items()
          if k in {v['family'] for v in variants}}
  shapes = dict.fromkeys(
      'int4' if 'int4' in (v.get('kernel_types') or {}) else v['format']
      for v in variants if v.get('format'))
  return html.render(
      'charts', charts=drawn, families=used,
      markers=[(name, svg.marker(families.MARKERS.get(name, 'circle')))
               for name in shapes] if len(shapes) > 1 else [],
      circle=svg.marker('circle'))


def _chart(
    variants: Sequence[Variant], score: str, field: str, title: str,
    unit: float, constraints: choosing.Constraints,
) -> Markup:
  first, chosen = variants[0], choosing.choose(variants, constraints)
  known = [v for v in variants if v.get(field) and score in v]
  front = _front([(v[field] / unit, 100 * v[score]) for v in known])
  known.sort(key=lambda v: (
      v is chosen, v is first, not v.get('dominated_by')))
  points = []
  for v in known:
    low, high = _ends(v, first, score)
    on_front = (v[field] / unit, 100 * v[score]) in front
    points.append(svg.Point(
        v[field] / unit, 100 * v[score], _text(v, first), low=low, high=high,
        label=v['name'] if on_front or v in (first, chosen) else '',
        style=f'f-{v["family"]}' + (' dominated' if v.get('dominated_by')
                                    else '') + (
                                        ' chosen' if v is chosen else ''),
        marker=families.marker(v), href=f'#{anchor(v)}', key=v['name']))
  return svg.scatter(
      points, svg.Axis(title=title, form='{:,g}', zero=True),
      svg.Axis(title=f'{choosing.SCORES[score]}, %', form='{:g}'), front,
      100 * first[score] if score in first else None)


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
  """Returns the points that no other one beats: cheaper and as accurate."""
  front = []
  for x, y in sorted(points, key=lambda p: (p[0], -p[1])):
    if not front or y > front[-1][1]:
      front.append((x, y))
  return front


def _ends(
    variant: Variant, first: Variant, score: str
) -> tuple[float | None, float | None]:
  """Returns the interval of a variant's score: beside the first one's."""
  found = variant.get('difference')
  if not found or score not in first:
    return None, None
  return (100 * (first[score] + found['low']),
          100 * (first[score] + found['high']))


def _text(variant: Variant, first: Variant) -> str:
  lines = [variant['name'], *choosing.compared(variant, first).split(', ')]
  if variant.get('dominated_by'):
    lines.append(f'dominated by {variant["dominated_by"]}')
  return '\n'.join(lines)
