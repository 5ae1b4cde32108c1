"""What a search found on Fashion-MNIST, beside uniform files and the peers'.

    python -m projects.fashion_mnist.searched --search_dir=DIRECTORY_OF_SEARCH
    python -m projects.fashion_mnist.searched --peer='NAME=FILE.tflite'
    python -m projects.fashion_mnist.searched --draw

The first form keeps the files that a search judged on the test split, the
second one a peer's file, measured the same way; both in `searched/files.csv`.
The last one draws the picture of the repository's README.md (`PLOT`): accuracy
against zipped size, with the front of the search, and against latency; and
writes the table of this project's README.md.
"""

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import os
from typing import Any

from modelgarden_opt import files
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.benchmark import latency
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.report import tables
from modelgarden_opt.search import results
from projects import kept
from projects import provenance

_HERE = os.path.dirname(os.path.abspath(__file__))
FLOAT_RUN = os.path.join(_HERE, 'float', 'mobilenet_v2')
RESULTS = os.path.join(_HERE, 'searched', 'files.csv')
PLOT = os.path.join(_HERE, '..', '..', 'docs', 'search.png')
FIELDS = (
    *provenance.COLUMNS, 'name', 'kind', 'layers', 'train_steps', 'seconds',
    'top_1_accuracy', 'n', 'difference', 'difference_low', 'difference_high',
    'size_bytes', 'gzip_bytes', 'median_ms', 'ratio', 'ratio_low', 'ratio_high')
# Kind of a row -> what the legend calls it, its color (Okabe and Ito) and
# marker; drawn in this order.
_KINDS = {
    'uniform': ('one choice for all layers', '#0072B2', 's'),
    'searched': ('search, layer by layer', '#009E73', 'o'),
    'peer': ('peers', '#D55E00', '^'),
    'float': ('float32', '#000000', 'D'),
    'winner': ('winner', '#CC79A7', '*'),
}


def of_search(directory: str) -> Iterator[dict[str, Any]]:
  """Yields a row for every file of a search that the test split judged."""
  found = files.read_json(os.path.join(directory, results.JSON))
  for trial in found['trials']:
    if 'test' not in trial:
      continue
    winner = trial['name'] == found['winner']['name']
    yield _row(
        trial, trial['test'], name=trial['name'],
        kind='winner' if winner else trial['kind'],
        layers='; '.join(f'{number} {what}' for what, number in trial.get(
            'layers', {}).items()),
        train_steps=trial.get('train_steps', 0), seconds=trial['seconds'])


def of_peer(name: str, path: str, floats: str) -> dict[str, Any]:
  """Returns the row of a file, measured beside the float one.

  Args:
    name: What it is called.
    path: The file.
    floats: The float32 file.
  """
  *_, scored = evaluate.evaluate(FLOAT_RUN, [floats, path])
  *_, timed = latency.benchmark([floats, path])['results']
  sizes = {'size_bytes': os.path.getsize(path),
           'gzip_bytes': census.gzip_bytes(path)}
  return _row(sizes, {**scored, **scored['metrics'], **timed}, name=name,
              kind='peer')


def _row(sizes, measured, **facts: Any) -> dict[str, Any]:
  difference = measured.get('difference') or {
      'value': 0.0, 'low': 0.0, 'high': 0.0}
  return {
      **dict.fromkeys(FIELDS, ''), **provenance.columns(), **facts,
      'top_1_accuracy': round(measured['top_1_accuracy'], 4),
      'n': measured['num_examples'],
      'difference': round(difference['value'], 5),
      'difference_low': round(difference['low'], 5),
      'difference_high': round(difference['high'], 5),
      'size_bytes': sizes['size_bytes'], 'gzip_bytes': sizes['gzip_bytes'],
      **{name: round(measured[name], 4) for name in (
          'median_ms', 'ratio', 'ratio_low', 'ratio_high')
         if measured[name] is not None}}


def draw(rows: Sequence[dict[str, str]], path: str) -> None:
  """Draws accuracy over zipped size and over latency.

  Args:
    rows: What `kept.read` returned.
    path: Of the picture.
  """
  import matplotlib  # pylint: disable=g-import-not-at-top
  matplotlib.use('Agg')
  from matplotlib import pyplot as plt
  figure, panels = plt.subplots(
      1, 2, figsize=(9.6, 4.0), sharey=True, layout='constrained')
  first = next(row for row in rows if row['kind'] == 'float')
  whole = int(first['gzip_bytes'])
  for panel, x_of, title in (
      (panels[0], lambda row: int(row['gzip_bytes']) / whole,
       f'zipped size, float32 ({whole / 1024:,.0f} KiB) = 1'),
      (panels[1], lambda row: float(row['ratio']),
       'latency, one thread, float32 = 1')):
    _draw_front(panel, rows, x_of)
    for kind, (label, color, marker) in _KINDS.items():
      members = [row for row in rows if row['kind'] == kind]
      if members:
        y = [100 * float(row['difference']) for row in members]
        ends = [[value - 100 * float(row['difference_low']),
                 100 * float(row['difference_high']) - value]
                for value, row in zip(y, members)]
        panel.errorbar(
            [x_of(row) for row in members], y, yerr=list(zip(*ends)),
            color=color, marker=marker, linestyle='none', elinewidth=0.8,
            markersize=11 if kind == 'winner' else 6, label=label)
        if kind == 'peer':  # Their points are close, so labels are stacked.
          for level, (value, row) in enumerate(sorted(
              zip(y, members), key=lambda pair: pair[0])):
            panel.annotate(
                row['name'], (x_of(row), value), (12, -6 + 11 * level),
                color=color, textcoords='offset points', fontsize=7)
    panel.axhline(0, color='0.8', zorder=0)
    panel.set(xlabel=title, xscale='log')
    panel.spines[['top', 'right']].set_visible(False)
  for panel, ticks in zip(panels, ([0.05, 0.1, 0.2, 0.5, 1], [0.5, 1, 2, 3])):
    panel.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
    panel.minorticks_off()
  panels[0].set_ylim(top=1.5)
  panels[0].set_ylabel('points of top-1 from float32, 10,000 test images')
  panels[0].legend(fontsize=8, frameon=False)
  figure.savefig(path, dpi=110)


def table(rows: Sequence[dict[str, str]]) -> str:
  """Returns the Markdown table of the files, the smallest one first.

  Args:
    rows: What `kept.read` returned.
  """
  whole = next(float(r['gzip_bytes']) for r in rows if r['kind'] == 'float')
  return tables.markdown(
      ['file', 'made by', 'test top-1', 'points from float', '95 % interval',
       'KiB', 'zipped KiB', 'zipped, ratio', 'latency, ratio'],
      [[row['name'], _KINDS[row['kind']][0],
        f"{float(row['top_1_accuracy']):.2%}",
        f"{100 * float(row['difference']):+.2f}",
        f"{100 * float(row['difference_low']):+.2f} to "
        f"{100 * float(row['difference_high']):+.2f}",
        f"{int(row['size_bytes']) / 1024:,.0f}",
        f"{int(row['gzip_bytes']) / 1024:,.0f}",
        f"{int(row['gzip_bytes']) / whole:.3f}", f"{float(row['ratio']):.2f}"]
       for row in sorted(rows, key=lambda r: int(r['gzip_bytes']))])


def _draw_front(panel, rows, x_of) -> None:
  """Draws the line below and right of which a file of the search is beaten."""
  ours = sorted((x_of(row), 100 * float(row['difference'])) for row in rows
                if row['kind'] != 'peer')
  front = []
  for x, y in ours:
    if not front or y > front[-1][1]:
      front.append((x, y))
  panel.step(*zip(*front), where='post', color='0.6', linewidth=1, zorder=0)


def main() -> None:
  """Keeps or draws."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--search_dir', help='output directory of a search')
  parser.add_argument('--peer', action='append', default=[],
                      metavar='NAME=TFLITE', help='repeatable')
  parser.add_argument('--float32', default='runs/fashion_mnist/mobilenet_v2/'
                      'files/float_float32.tflite', help='the float32 file')
  parser.add_argument('--draw', action='store_true')
  args = parser.parse_args()
  rows = list(of_search(args.search_dir)) if args.search_dir else []
  for peer in args.peer:
    name, _, path = peer.partition('=')
    rows.append(of_peer(name, path, args.float32))
  if rows:
    order = list(_KINDS)
    kept.replace(RESULTS, FIELDS, rows, lambda row: row['name'],
                 lambda row: (order.index(row['kind']), row['name']))
  if args.draw:
    rows = kept.read(RESULTS)
    draw(rows, PLOT)
    files.replace_section(
        os.path.join(_HERE, 'README.md'), 'searched', table(rows))


if __name__ == '__main__':
  main()
