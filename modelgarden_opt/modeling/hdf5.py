"""HDF5 files of strangers: what hangs or crashes HDF5's code is found before.

A damaged heap can send its C code into a loop that nothing ends. So a file is
first read whole by a process of its own, within a limit of time.
"""

import contextlib
import io
import zipfile

import h5py

from modelgarden_opt import errors
from modelgarden_opt import isolated

# Seconds for all attributes and arrays of a file.
TIME_LIMIT = 60.0
# Of an array; larger ones, which a few bytes may claim to be, are not read.
_MAX_BYTES = 2**30


def is_one(path: str) -> bool:
  """Whether a local path is an HDF5 file, or an archive that may hold one."""
  return zipfile.is_zipfile(path) or h5py.is_hdf5(path)


def assert_ends(path: str, field: str, time_limit: float = TIME_LIMIT) -> None:
  """Refuses a file that HDF5's code does not survive, or never finishes.

  What it merely cannot read is left to whoever loads the file.

  Args:
    path: An HDF5 file, or a `.keras` archive.
    field: Where it comes from, for messages.
    time_limit: Seconds that reading all of it may take.

  Raises:
    UsageError: If it is such a file.
  """
  try:
    with isolated.Object(f'{__name__}:Walk', name=repr(path),
                         time_limit=time_limit) as walk:
      walk.call('read', path)
  except isolated.TookTooLong:
    raise errors.UsageError(
        f'{field}: {path!r} is damaged: HDF5 does not end reading it, within '
        f'{time_limit:g} seconds') from None
  except isolated.Crashed:
    raise errors.UsageError(
        f'{field}: {path!r} is damaged: HDF5 crashes on it') from None


class Walk:
  """Reads files; lives in the process that may hang."""

  def read(self, path: str) -> None:
    """Reads every attribute and every array of a file."""
    with contextlib.suppress(Exception):  # Loading tells what is wrong.
      if not zipfile.is_zipfile(path):
        _read(path)
        return
      with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
          if entry.filename.endswith('.h5') and entry.file_size <= _MAX_BYTES:
            _read(io.BytesIO(archive.read(entry)))


def _read(file) -> None:
  """Reads a file, or what is open as one."""

  def visit(unused_name, part):
    for name in part.attrs:
      part.attrs[name]  # pylint: disable=pointless-statement
    if isinstance(part, h5py.Dataset) and part.nbytes <= _MAX_BYTES:
      part[()]  # pylint: disable=pointless-statement

  with h5py.File(file, 'r') as opened:
    visit('', opened)
    opened.visititems(visit)
