"""Pages of single commands: `inspect` of one or two files, and `plan`."""

from collections.abc import Mapping
from collections.abc import Sequence
import math
import os
from typing import Any

from markupsafe import Markup

from modelgarden_opt.report import details
from modelgarden_opt.report import html
from modelgarden_opt.report import layers


def inspection(record: Mapping[str, Any]) -> str:
  """Returns the page of the record that `inspect --output_json` writes."""
  kernels = record['kernels']
  weights = sum(map(layers.size, kernels))
  float_ops = record['float_ops']
  facts = {
      'bytes': f'{record["size_bytes"]:,}',
      'kernels': f'{len(kernels)}', 'weights': f'{weights:,}',
      'zeros': f'{record["sparsity"]:.2%}',
      'float ops': ', '.join(f'{n} {name}' for name, n in sorted(
          float_ops.items())) or 'none',
      'delegate partitions': record['num_delegate_partitions'],
      'ops outside of the delegate': record['num_undelegated_ops']}
  sections = [html.Section('facts', 'The file', details.facts(facts))]
  if kernels:
    sections.append(html.Section('kernels', 'Kernels', layers.table(
        kernels, layers.names(kernels), 'Kernels of the file')))
  sections.append(html.Section('ops', 'Ops', _counts(
      record['ops'], 'Ops of the file', 'computed in float', float_ops)))
  return html.page(os.path.basename(record['model']), sections,
                   facts={'file': record['model']})


def _counts(
    counts: Mapping[str, int], caption: str, more: str,
    others: Mapping[str, int],
) -> Markup:
  most = max(counts.values(), default=1)
  return html.table(html.Table(
      caption,
      [html.Column('op', False), html.Column('number'), html.Column(more)],
      [html.Row([html.Cell(name), html.number(n, '{:,}', most),
                 html.number(others.get(name))])
       for name, n in sorted(counts.items(), key=lambda item: -item[1])]))


def comparison(found: Mapping[str, Any]) -> str:
  """Returns the page of what `inspect A B --output_json` writes."""
  before, after = found['models']
  columns = [html.Column('', False), html.Column('before'),
             html.Column('after'), html.Column('ratio')]
  counts = {
      **{n.replace('_', ' '): v for n, v in found['census'].items()},
      **{f'ops {n}': v for n, v in found['ops'].items()}}
  rows = [html.Row([
      html.Cell(name), html.number(a), html.number(b),
      html.number(b / a if a else None, '{:.2f}')])
          for name, (a, b) in counts.items()]
  kernels = found['kernels']
  fields = list(dict.fromkeys(f for k in kernels for f in k['changed']))
  names = layers.names([
      {'name': k['name'], 'op': 'kernel', 'shape': ()} for k in kernels])
  loss = html.Column('SQNR dB', help='weights of the first file over the '
                     'change of them; low is a large change')
  changed = [
      html.Row([html.Cell(name), _noise(k),
                *(_change(k['changed'].get(f), f) for f in fields)])
      for name, k in zip(names, kernels)]
  return html.page(
      f'{os.path.basename(before)} and {os.path.basename(after)}',
      [html.Section('files', 'The files', html.table(html.Table(
          'What differs between the files', columns, rows))),
       html.Section('kernels', 'Kernels', html.table(html.Table(
           'What changed in every kernel',
           [html.Column('layer', False), loss,
            *(html.Column(f.replace('_', ' '), False) for f in fields)],
           changed)), 'A dash: it did not change.')],
      facts={'before': before, 'after': after})


def _change(values: Sequence[Any] | None, field: str) -> html.Cell:
  if values is None:
    return html.Cell('–', style='same')
  return html.Cell(' → '.join(_text(v, field) for v in values))


def _text(value: Any, field: str) -> str:
  if isinstance(value, list):
    return (':' if field == 'm_by_n' else '×').join(map(str, value))
  if isinstance(value, float):
    return f'{value:.4g}'
  return '–' if value is None else str(value)


def _noise(kernel: Mapping[str, Any]) -> html.Cell:
  if kernel['same_weights']:
    return html.Cell('the same', math.inf, style='same')
  return html.number(kernel['sqnr_db'], '{:.1f}', 60)


def plan(experiment: str, written: Mapping[str, Any]) -> str:
  """Returns the page of what `plan --output_json` writes."""
  sections = []
  if 'channels' in written:
    sections.append(html.Section('channels', 'Channels', _channels(
        written['channels'])))
  if 'kernels' in written:
    kernels = written['kernels']
    total = sum(math.prod(k['shape']) for k in kernels)
    facts = {
        'kernels': f'{len(kernels)}', 'weights': f'{total:,}',
        'zeros': f'{sum(k["zeros"] for k in kernels) / max(1, total):.2%}',
        'float32, dense': _mebibytes(k['dense_bytes'] for k in kernels),
        'float32, sparse': _mebibytes(k['sparse_bytes'] for k in kernels),
        'as integers': _mebibytes(
            math.prod(k['shape']) * (k['num_bits'] or 32) / 8
            for k in kernels)}
    sections += [
        html.Section('size', 'Expected size of the kernels',
                     details.facts(facts)),
        html.Section('kernels', 'Kernels', _planned(kernels))]
  return html.page(f'Plan of {experiment}', sections)


def _mebibytes(sizes: Any) -> str:
  return f'{sum(sizes) / 2**20:.2f} MiB'


def _channels(groups: Sequence[Mapping[str, Any]]) -> Markup:
  most = max((g['size'] for g in groups), default=1)
  return html.table(html.Table(
      'Groups of channels',
      [html.Column('channels of', False), html.Column('now'),
       html.Column('kept'), html.Column('share'),
       html.Column('left whole', False)],
      [html.Row([
          html.Cell(g['path']), html.number(g['size'], '{:,}', most),
          html.number(g['kept'], '{:,}', most),
          html.number(100 * g['kept'] / g['size'], '{:.0f} %', 100),
          html.Cell(g['reason'] or '–')]) for g in groups]))


def _planned(kernels: Sequence[Mapping[str, Any]]) -> Markup:
  most = max((math.prod(k['shape']) for k in kernels), default=1)
  column = html.Column
  columns = [
      (column('kernel', False), lambda k: html.Cell(k['path'])),
      (column('type', False), lambda k: html.Cell(k['layer_type'])),
      (column('shape', False), lambda k: html.Cell(
          '×'.join(map(str, k['shape'])), math.prod(k['shape']))),
      (column('weights'), lambda k: html.number(
          math.prod(k['shape']), '{:,}', most)),
      (column('zeros'), lambda k: html.number(
          100 * k['sparsity'], '{:.1f} %', 100)),
      (column('clusters'), lambda k: html.number(k['clusters'])),
      (column('bits'), lambda k: html.number(k['num_bits'] or 32, '{}', 32)),
      (column('left dense', False), lambda k: html.Cell(k['reason'] or '–')),
      (column('bits kept', False),
       lambda k: html.Cell(k['bits_reason'] or '–')),
  ]
  kept = [(c, cell) for c, cell in columns
          if any(cell(k).text != '–' for k in kernels)]
  return html.table(html.Table(
      'What will be done with every kernel', [c for c, _ in kept],
      [html.Row([cell(k) for _, cell in kept]) for k in kernels]))
