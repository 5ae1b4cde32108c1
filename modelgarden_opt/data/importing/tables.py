"""Tables of paths and labels: CSV (also of tabs) and JSON Lines."""

from collections.abc import Iterator
import csv
import io
import json
import os
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.data.importing import folder
from modelgarden_opt.data.importing import source as source_lib
from modelgarden_opt.data.importing import splitting

# Names that a column may have.
_COLUMNS = {
    'path': ('path', 'file', 'filename', 'file_name', 'image', 'image_path'),
    'label': ('label', 'class', 'category', 'class_name'),
    'split': ('split', 'subset', 'set', 'partition'),
}
_REQUIRED = ('path', 'label')


def read_csv(path: str) -> source_lib.Source:
  """Returns the images that a CSV file names, see `_source`."""
  text = _text(path)
  lines = text.splitlines()
  delimiter = '\t' if '\t' in (lines[0] if lines else '') else ','
  rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
  if not rows:
    raise errors.UsageError(f'{path}: the file is empty')
  header = [cell.strip().lower() for cell in rows[0]]
  for number, row in enumerate(rows[1:], 2):
    if any(row[len(header):]):
      raise errors.UsageError(
          f'{path}: line {number} has {len(row)} values for {len(header)} '
          f'columns; put quotes around what holds {delimiter!r}')
  numbered = [(number, dict(zip(header, row)))
              for number, row in enumerate(rows[1:], 2) if any(row)]
  return _source(path, header, numbered)


def read_jsonl(path: str) -> source_lib.Source:
  """Returns the images that a JSON Lines file names, see `_source`."""
  numbered = list(_objects(path))
  if not numbered:
    raise errors.UsageError(f'{path}: the file is empty')
  return _source(path, list(numbered[0][1]), numbered)


def _objects(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
  # Not `splitlines`, which also splits at characters that JSON allows.
  for number, line in enumerate(_text(path).split('\n'), 1):
    if not line.strip():
      continue
    try:
      value = json.loads(line)
    except ValueError as e:
      raise errors.UsageError(f'{path}, line {number}: not JSON: {e}') from None
    if not isinstance(value, dict):
      raise errors.UsageError(
          f'{path}, line {number}: expected an object such as '
          f'{{"path": "a.jpg", "label": "cat"}}, received {line.strip()[:40]}')
    yield number, value


def _text(path: str) -> str:
  try:
    return files.read_bytes(path).decode('utf-8-sig')
  except UnicodeDecodeError as e:
    raise errors.UsageError(f'{path}: not UTF-8: {e}') from None


def _source(path, header, numbered) -> source_lib.Source:
  """Returns the images of rows.

  Args:
    path: The table; paths in it are relative to its directory.
    header: Names of the columns.
    numbered: (number of the line, value by column).

  Raises:
    UsageError: If a column is missing, rows lack values or contradict each
      other, or there is only one class.
  """
  columns = {
      meaning: next((name for name in names if name in header), None)
      for meaning, names in _COLUMNS.items()}
  missing = [name for name in _REQUIRED if columns[name] is None]
  if missing:
    raise errors.UsageError(
        f'{path}: no column {" and no column ".join(missing)}; expected a '
        'header with path, label and, if you like, split; received '
        f'{", ".join(map(repr, header))}')
  rows, wrong, problems = [], [], []
  lines: dict[tuple[str, str], int] = {}
  labels: dict[str, tuple[str, int]] = {}
  for number, row in numbered:
    values = {meaning: _cell(row.get(column))
              for meaning, column in columns.items()}
    name, split = values['path'], splitting.named(values['split'])
    label, first = labels.setdefault(name, (values['label'], number))
    if any(isinstance(row.get(columns[key]), (dict, list))
           for key in _REQUIRED):
      wrong.append(f'line {number} has a path or a label that is no text and '
                   'no number')
    elif not values['path'] or not values['label']:
      wrong.append(f'line {number} has no '
                   f'{"label" if values["path"] else "path"}')
    elif columns['split'] and not split:
      wrong.append(f'line {number} has split {values["split"]!r}; expected '
                   'train, validation or test')
    elif label != values['label']:
      wrong.append(f'line {number} has label {values["label"]!r} for {name!r}, '
                   f'line {first} has {label!r}; an image is of one class')
    elif (name, split) in lines:
      problems.append(source_lib.Problem(
          name, 'listed_twice', f'line {number} is as line '
          f'{lines[name, split]}, and the image is imported once'))
    else:
      lines[name, split] = number
      rows.append((name, label, split))
  if wrong or not rows:
    more = f' (and {len(wrong) - 1:,} more lines)' if len(wrong) > 1 else ''
    raise errors.UsageError(f'{path}: {(wrong or ["no rows"])[0]}{more}')
  classes = folder.in_order({label for _, label, _ in rows})
  numbers = {name: number for number, name in enumerate(classes)}
  splitting.assert_classes(path, classes, numbers.values())
  items = [source_lib.Item(name, os.path.join(os.path.dirname(path), name),
                           numbers[label], split)
           for name, label, split in rows]
  return source_lib.Source(
      source_lib.CLASSIFICATION, classes, items, folder.load, problems)


def _cell(value: Any) -> str:
  return '' if value is None else str(value).strip()
