"""What an interrupted analysis has found already: a file with a line an item.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import json
import os
from typing import Any

from modelgarden_opt import files


class Journal:
  """Finished items, kept on disk as they come.

  The first line says what they are of. Where that is something else than now,
  they are forgotten.
  """

  def __init__(self, path: str, of: Mapping[str, Any]):
    """Reads what is there.

    Args:
      path: The file; empty to keep nothing on disk.
      of: What the items depend on, ready for JSON.
    """
    self._path = path
    self._of = json.loads(json.dumps(of))
    self.items: list[dict[str, Any]] = []
    # Whether items were dropped because they were of something else.
    self.restarted = False
    if not path:
      return
    lines = list(_lines(path))
    if lines and lines[0] == self._of:
      self.items = lines[1:]
    else:
      self.restarted = len(lines) > 1
    # Also cuts off a line that was not finished.
    self._rewrite()

  def _rewrite(self) -> None:
    files.write_atomically(self._path, ''.join(
        json.dumps(line) + '\n' for line in [self._of, *self.items]))

  def add(self, item: Mapping[str, Any]) -> None:
    """Keeps a finished item."""
    self.items.append(dict(item))
    if self._path:
      with open(self._path, 'a', encoding='utf-8') as f:
        f.write(json.dumps(item) + '\n')


def _lines(path: str) -> Iterator[Any]:
  """Yields the values of the lines that are whole."""
  if not os.path.exists(path):
    return
  with open(path, encoding='utf-8', errors='replace') as f:
    for line in f:
      try:
        value = json.loads(line)
      except ValueError:
        return
      if not line.endswith('\n') or not isinstance(value, dict):
        return
      yield value
