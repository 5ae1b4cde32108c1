"""Names of the classes of a `.tflite` file."""

import io
import os
import zipfile

from modelgarden_opt import errors
from modelgarden_opt import files

FILE = 'labels.txt'


def labels_of(path: str) -> list[str] | None:
  """Returns the class names that go with a file, None if there are none.

  They are in `labels.txt`: packed into the file, as TFLite metadata packs its
  associated files (a zip archive at the end), else beside it, as
  `model.labels.txt` or `labels.txt`.

  Args:
    path: A `.tflite` file.
  """
  content = io.BytesIO(files.read_bytes(path))
  if zipfile.is_zipfile(content):
    try:
      with zipfile.ZipFile(content) as archive:
        if FILE in archive.namelist():
          return _lines(archive.read(FILE))
    except zipfile.BadZipFile:
      pass  # Bytes that only look like an archive.
  directory, name = os.path.split(path)
  for beside in (f'{os.path.splitext(name)[0]}.{FILE}', FILE):
    beside = os.path.join(directory, beside)
    if files.is_file(beside):
      return read(beside)
  return None


def read(path: str) -> list[str]:
  """Returns the lines of a file with one class name each.

  Raises:
    UsageError: If there is no such file, or it is empty or not text.
  """
  try:
    names = _lines(files.read_bytes(path))
  except OSError as e:
    raise errors.UsageError(
        f'labels: {path!r} cannot be read: {e.strerror}') from None
  except UnicodeDecodeError:
    raise errors.UsageError(f'labels: {path!r} is not UTF-8 text') from None
  if not names:
    raise errors.UsageError(f'labels: {path!r} is empty')
  return names


def _lines(content: bytes) -> list[str]:
  return [line.strip() for line in
          content.decode('utf-8-sig').rstrip().splitlines()]
