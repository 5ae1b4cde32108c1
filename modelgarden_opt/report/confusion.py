"""Which classes a file confuses, and what compression did to each class."""

from collections.abc import Sequence

from markupsafe import Markup
import numpy as np

from modelgarden_opt.report import html
from modelgarden_opt.report import predictions as predictions_lib

# Of more classes, the most frequent confusions are listed instead.
_MOST_CLASSES = 20
_NUM_PAIRS = 20
# Share of a class at which a cell has its full color, and how weak or strong a
# color may be under black text.
_FULL, _FAINTEST, _STRONGEST = 0.2, 0.08, 0.85

Predictions = predictions_lib.Predictions


def panel(
    chosen: tuple[str, Predictions], first: tuple[str, Predictions] | None,
    class_names: Sequence[str],
) -> Markup:
  """Returns confusions of one file, and its accuracy class by class.

  Args:
    chosen: Name and predictions of the file.
    first: Those of the file that it is compared with, None for none.
    class_names: Names of the classes, empty if they are not known.
  """
  name, predictions = chosen
  number = 1 + max(int(predictions.labels.max()),
                   int(predictions.classes.max()))
  number = max(number, len(class_names))
  names = list(class_names) or [str(i) for i in range(number)]
  counts = predictions.confusion(number)
  same = first is not None and np.array_equal(
      first[1].labels, predictions.labels)
  before = first[1].confusion(number) if same else None
  shown = (_matrix(name, counts, names) if number <= _MOST_CLASSES
           else _pairs(name, counts, before, names))
  return html.render('confusion', matrix=shown, classes=_classes(
      name, counts, before, names, first[0] if same else ''))


def of_segmentation(
    chosen: tuple[str, Sequence[float]], first: tuple[str, Sequence[float]],
    class_names: Sequence[str],
) -> Markup:
  """Returns the intersection over union of every class, worst change first.

  Args:
    chosen: Name of the file and its IoU by class.
    first: Those of the file that it is compared with; may be the same one.
    class_names: Names of the classes, empty if they are not known.
  """
  (name, after), (other, before) = chosen, first
  names = list(class_names) or [str(i) for i in range(len(after))]
  columns = [html.Column('class', False), html.Column(f'{name}, IoU')]
  compared = other != name and len(before) == len(after)
  if compared:
    columns += [html.Column(other), html.Column('points')]
  order = sorted(range(len(after)), key=lambda i: (
      after[i] - before[i] if compared else 0.0))
  rows = []
  for i in order:
    cells = [html.Cell(names[i]), html.number(100 * after[i], '{:.1f} %', 100)]
    if compared:
      cells += [html.number(100 * before[i], '{:.1f} %'),
                _points(100 * (after[i] - before[i]))]
    rows.append(html.Row(cells))
  return html.table(html.Table('IoU by class', columns, rows))


def _points(change: float) -> html.Cell:
  """Returns the cell of a change in points."""
  return html.number(change, '{:+.1f}', style='worse' if change < 0 else (
      'better' if change > 0 else 'same'))


def _matrix(name: str, counts: np.ndarray, names: Sequence[str]) -> Markup:
  shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
  return html.render(
      'matrix', caption=f'Confusions of {name}', names=names,
      rows=[(names[i], [
          (int(n), i == j, min(_STRONGEST, _FAINTEST + shares[i, j] / _FULL))
          for j, n in enumerate(row)]) for i, row in enumerate(counts)])


def _pairs(
    name: str, counts: np.ndarray, before: np.ndarray | None,
    names: Sequence[str],
) -> Markup:
  wrong = counts - np.diag(np.diag(counts))
  order = np.argsort(-wrong, axis=None, kind='stable')[:_NUM_PAIRS]
  pairs = [p for p in zip(*np.unravel_index(order, wrong.shape)) if wrong[p]]
  columns = [html.Column('is', False), html.Column('taken for', False),
             html.Column('times')]
  if before is not None:
    columns.append(html.Column('before'))
  return html.table(html.Table(
      f'Most frequent confusions of {name}', columns, [
          html.Row([html.Cell(names[i]), html.Cell(names[j]),
                    html.number(int(wrong[i, j]), '{:,}', int(wrong.max())),
                    *([html.number(int(before[i, j]))]
                      if before is not None else [])])
          for i, j in pairs]))


def _classes(
    name: str, counts: np.ndarray, before: np.ndarray | None,
    names: Sequence[str], first: str,
) -> Markup:
  """Returns the share of every class that is found, worst change first."""
  of_class = counts.sum(axis=1)
  right = np.diag(counts)
  columns = [html.Column('class', False), html.Column('images'),
             html.Column(name, help='share of the class that is recognized')]
  rows = []
  order = range(len(names))
  if before is not None and first != name:
    columns += [html.Column(first), html.Column('points')]
    order = np.argsort(right - np.diag(before), kind='stable')
  for i in order:
    if not of_class[i]:
      continue
    share = 100 * right[i] / of_class[i]
    cells = [html.Cell(names[i]), html.number(int(of_class[i])),
             html.number(share, '{:.1f} %', 100)]
    if len(columns) > 3:
      was = 100 * np.diag(before)[i] / of_class[i]
      cells += [html.number(was, '{:.1f} %'), _points(share - was)]
    rows.append(html.Row(cells))
  return html.table(html.Table('Accuracy by class', columns, rows))
