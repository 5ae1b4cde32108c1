"""The tables of docs/reliability.md, from the kept counts."""

from collections.abc import Mapping
from collections.abc import Sequence
import os

from modelgarden_opt.report import tables
from projects import kept

PATH = os.path.join(os.path.dirname(__file__), 'results', 'faults.csv')
_FORMS = {
    'configurations': 'configurations with one mutation each',
    'damaged': 'damaged data and model files',
    'kills': 'commands that are killed and started again'}
_NOT_YET = 'not measured yet'


def text(path: str = PATH) -> str:
  """Returns the tables as Markdown: all forms, then every form by kind."""
  rows = kept.read(path)
  parts = [_overview(rows)]
  for form in _FORMS:
    of_form = [row for row in rows if row['form'] == form]
    if of_form:
      parts.append(f'### {_FORMS[form].capitalize()}\n\n{_by_kind(of_form)}')
  return '\n\n'.join(parts)


def _overview(rows: Sequence[Mapping[str, str]]) -> str:
  lines = []
  for form, what in _FORMS.items():
    of_form = [row for row in rows if row['form'] == form]
    counts = {name: _count(of_form, outcome=name)
              for name in _values(of_form, 'outcome')}
    lines.append([
        what, f'{_count(of_form):,}',
        ', '.join(f'{number:,} {name}' for name, number in counts.items())
        or _NOT_YET,
        ', '.join(_values(of_form, 'commit')),
        max(_values(of_form, 'date'), default='')])
  machines = dict.fromkeys(row['environment'] for row in rows)
  return '\n\n'.join([
      tables.markdown(['what', 'cases', 'outcomes', 'commit', 'date'], lines),
      *(f'Measured on: {machine}.' for machine in machines)])


def _by_kind(rows: Sequence[Mapping[str, str]]) -> str:
  outcomes = _values(rows, 'outcome')
  timed = any(row['median_ms'] for row in rows)
  lines = []
  for kind in _values(rows, 'kind'):
    of_kind = [row for row in rows if row['kind'] == kind]
    largest = max(of_kind, key=lambda row: int(row['number']))
    lines.append([
        kind, *(f'{_count(of_kind, outcome=name):,}' for name in outcomes),
        *([largest['median_ms']] if timed else [])])
  return tables.markdown(
      ['kind', *outcomes, *(['median, ms'] if timed else [])], lines)


def _values(rows: Sequence[Mapping[str, str]], field: str) -> list[str]:
  """Returns the values of a column, the most frequent first."""
  counts: dict[str, int] = {}
  for row in rows:
    counts[row[field]] = counts.get(row[field], 0) + int(row['number'])
  return sorted(counts, key=lambda value: -counts[value])


def _count(rows: Sequence[Mapping[str, str]], **chosen: str) -> int:
  return sum(int(row['number']) for row in rows if all(
      row[field] == value for field, value in chosen.items()))
