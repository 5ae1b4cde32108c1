"""Every kind of source, and how it is known by what is there."""

from collections.abc import Callable
import os

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.data.importing import arrays
from modelgarden_opt.data.importing import folder
from modelgarden_opt.data.importing import idx
from modelgarden_opt.data.importing import masks
from modelgarden_opt.data.importing import source as source_lib
from modelgarden_opt.data.importing import tables

# Kind -> its reader. One more kind is one more entry, and a way to guess it.
READERS: dict[str, Callable[[str], source_lib.Source]] = {
    'folder': folder.read,
    'csv': tables.read_csv,
    'jsonl': tables.read_jsonl,
    'idx': idx.read_directory,
    'npz': arrays.read,
    'masks': masks.read,
}
_ENDINGS = {'.csv': 'csv', '.tsv': 'csv', '.jsonl': 'jsonl',
            '.ndjson': 'jsonl', '.npz': 'npz'}
_OF_FILES = ('csv', 'jsonl')


def read(path: str, kind: str | None = None) -> tuple[str, source_lib.Source]:
  """Returns the kind of a source and what is in it.

  Args:
    path: File or directory.
    kind: Key of `READERS`, None to guess it.

  Raises:
    UsageError: If there is nothing, it is of no known kind, or what is in it
      cannot be read.
  """
  path = os.path.expanduser(path)
  path = path.rstrip('/') if '://' not in path else path
  if not files.exists(path):
    raise errors.UsageError(f'source: there is no file or directory {path!r}')
  is_directory = files.is_directory(path)
  kind = kind or _guess(path, is_directory)
  if kind not in READERS:
    raise errors.UsageError(
        f'kind: {kind!r} is not a kind of source'
        f'{errors.nearest(kind, READERS)}')
  expects_file = kind in _OF_FILES or (kind == 'npz' and path.endswith('.npz'))
  if is_directory == expects_file:
    raise errors.UsageError(
        f'source: {kind} needs a {"file" if expects_file else "directory"}, '
        f'received {path!r}')
  return kind, READERS[kind](path)


def _guess(path: str, is_directory: bool) -> str:
  if not is_directory:
    kind = _ENDINGS.get(os.path.splitext(path)[1].lower())
    if kind is None:
      raise errors.UsageError(
          f'source: cannot guess what {path!r} is; expected a directory or a '
          f'file that ends in {", ".join(_ENDINGS)}; or say --kind')
    return kind
  if any(idx.find(path).values()):
    return 'idx'
  if any(name.endswith('.npy') for name in files.names(path)):
    return 'npz'
  return 'masks' if masks.is_one(path) else 'folder'
