"""The second half of a report: everything that explains the first one."""

from collections.abc import Mapping
from collections.abc import Sequence
import shlex
from typing import Any

from markupsafe import Markup

from modelgarden_opt.report import finding
from modelgarden_opt.report import html
from modelgarden_opt.report import overview
from modelgarden_opt.report import runs as runs_lib

# Fields of the records of `target`: heading and format.
_TARGETS = {
    'milliseconds': ('ms', '{:.3f}'), 'instructions': ('instructions', '{:,}'),
    'arena_bytes': ('arena bytes', '{:,}'),
    'sram_bytes': ('SRAM bytes', '{:,}'), 'dram_bytes': ('DRAM bytes', '{:,}'),
    'flash_bytes': ('flash bytes', '{:,}'),
    'weight_bytes': ('weight bytes', '{:,}'),
    'num_cpu_ops': ('CPU ops', '{:,}'),
}
# Fields of the layers of `analyze`: heading and format, None for text.
_LAYERS = {
    'layer_type': ('type', None), 'op': ('op', None),
    'bits': ('bits', '{:g}'), 'drop': ('drop', '{:+.2%}'),
    'divergence': ('divergence', '{:.2g}'), 'sqnr_db': ('SQNR, dB', '{:.1f}'),
    'own_sqnr_db': ('own SQNR, dB', '{:.1f}'),
    'kernel_sqnr_db': ('kernel SQNR, dB', '{:.1f}'),
    'clipped': ('clipped', '{:.2%}'), 'saturated': ('saturated', '{:.2%}'),
    'range_use': ('range use', '{:.0%}'),
    'bias_rounding': ('bias rounding', '{:.3%}'),
    'weights': ('weights', '{:,}'),
}
# A cell of the table of configurations shows so many letters; all of them when
# it is pointed at.
_MOST_LETTERS = 40
# Longer commands are written on several lines.
_MOST_COLUMNS = 100


def targets(
    found: finding.Found, names: Mapping[str, str]) -> Markup:
  """Returns what files cost on devices; empty if nothing was measured.

  Args:
    found: What was found.
    names: Names of the variants by path.
  """
  records = {(found.path_of(r['model']), r['device']): r
             for t in found.of('target') for r in t['results']}
  records = {k: r for k, r in records.items() if k[0] in names}
  if not records:
    return Markup()
  fields = [f for f in _TARGETS if any(f in r for r in records.values())]
  rows = [html.Row([
      html.Cell(names[path]), html.Cell(device),
      *(html.number(r.get(f), _TARGETS[f][1], max(
          x.get(f) or 0 for (_, d), x in records.items() if d == device))
        for f in fields),
      html.Cell(f'{r.get("tool", "")} {r.get("version", "")}'.strip()),
      html.Cell(' '.join(map(str, r.get('notes') or ())) or '–')])
          for (path, device), r in records.items()]
  text = html.Column
  return html.table(html.Table('Costs on devices', [
      text('variant', False), text('device', False),
      *(html.Column(_TARGETS[f][0]) for f in fields),
      text('by', False), text('notes', False)], rows, style='wrap'))


def layers(values: Sequence[Mapping[str, Any]], caption: str) -> Markup:
  """Returns the table of the layers that `analyze` found, in their order.

  Args:
    values: Its `layers`.
    caption: What the table shows.
  """
  fields = [f for f in _LAYERS if any(v.get(f) is not None for v in values)]
  columns, rows = [html.Column('layer', False)], []
  most = {}
  for field in fields:
    heading, form = _LAYERS[field]
    columns.append(html.Column(heading, form is not None))
    if form:
      most[field] = max(abs(float(v.get(field) or 0)) for v in values)
  for v in values:
    rows.append(html.Row([html.Cell(str(v.get('layer', '–'))), *(
        html.number(v.get(f), _LAYERS[f][1], most[f]) if f in most
        else _cut(v.get(f)) for f in fields)]))
  return html.table(html.Table(caption, columns, rows))


def records(values: Sequence[Any], first: str, caption: str) -> Markup:
  """Returns a table of any records: names, then numbers with bars.

  Args:
    values: Records, of which nested ones are shown by dotted path.
    first: The field that names a record.
    caption: What the table shows.
  """
  flat = [runs_lib.flat(v) for v in values if isinstance(v, Mapping)]
  fields = list(dict.fromkeys(k for v in flat for k in v if k != first))
  numbers = [f for f in fields if all(
      isinstance(v.get(f), (int, float)) or v.get(f) is None for v in flat)]
  rows = [html.Row([html.Cell(str(v.get(first, '–'))), *(
      html.number(None if v.get(f) is None else float(v[f]), '{:,.4g}',
                  max(abs(float(x.get(f) or 0)) for x in flat))
      if f in numbers else _cut(v.get(f)) for f in fields)]) for v in flat]
  return html.table(html.Table(
      caption, [html.Column(first, False), *(
          html.Column(f.replace('_', ' '), f in numbers) for f in fields)],
      rows))


def _cut(value: Any, style: str = '') -> html.Cell:
  text = '–' if value is None else str(value)
  if len(text) <= _MOST_LETTERS:
    return html.Cell(text, style=style)
  return html.Cell(f'…{text[1 - _MOST_LETTERS:]}', style=style, title=text)


def configuration(runs: Mapping[str, runs_lib.Run]) -> Markup:
  """Returns the fields in which runs differ; empty if there are none."""
  fields = runs_lib.differences(runs)
  if not fields:
    return Markup()
  rows = []
  for path, values in fields:
    rows.append(html.Row([html.Cell(path), *(
        _cut(v, 'same' if i and v == values[0] else '')
        for i, v in enumerate(values))]))
  return html.table(html.Table(
      'Fields in which the runs differ',
      [html.Column('field', False), *(html.Column(n, False) for n in runs)],
      rows, style='tall'))


def commands(
    variants: Sequence[Mapping[str, Any]], made: Mapping[str, Sequence[str]],
    unfolded: str = '',
) -> Markup:
  """Returns the commands of every variant, each with its anchor.

  Args:
    variants: Records of `results.collect`.
    made: Commands by variant.
    unfolded: Name of the variant that is shown at once.
  """
  return html.folded([
      (overview.anchor(v), v['name'], v['model'], v['name'] == unfolded,
       html.render('commands', lines=[
           wrapped(line) for line in made.get(v['name'], ())]))
      for v in variants])


def wrapped(command: str) -> str:
  """Returns a long command with one flag a line, as a shell reads it."""
  if len(command) <= _MOST_COLUMNS:
    return command
  words = shlex.split(command)
  first = next((i for i, w in enumerate(words) if w.startswith('--')),
               len(words))
  return ' \\\n    '.join(
      [shlex.join(words[:first]), *map(shlex.quote, words[first:])])


def facts(values: Mapping[str, Any]) -> Markup:
  """Returns a list of names and values."""
  return html.render('facts', values=values)
