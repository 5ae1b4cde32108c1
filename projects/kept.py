"""Results that stay in the repository: CSV files, one row a measurement."""

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import io
import os
from typing import Any

from modelgarden_opt import files

Row = Mapping[str, Any]


def read(path: str) -> list[dict[str, str]]:
  """Returns the rows of a file; none if there is no file yet."""
  if not os.path.exists(path):
    return []
  with open(path, encoding='utf-8', newline='') as f:
    return list(csv.DictReader(f))


def replace(
    path: str,
    fields: Sequence[str],
    rows: Iterable[Row],
    key: Callable[[Row], Hashable],
    rank: Callable[[Row], Any] = lambda row: 0,
) -> None:
  """Writes rows in place of those with the same keys; others stay.

  Args:
    path: The file.
    fields: Its columns.
    rows: The new rows.
    key: Says what belongs together: all kept rows with the key of a new row
      are dropped.
    rank: What rows are sorted by; the order of equal ones stays.
  """
  rows = list(rows)
  new = {key(row) for row in rows}
  rows = [row for row in read(path) if key(row) not in new] + rows
  text = io.StringIO()
  writer = csv.DictWriter(text, fields, lineterminator='\n')
  writer.writeheader()
  writer.writerows(sorted(rows, key=rank))
  files.write_atomically(path, text.getvalue())
