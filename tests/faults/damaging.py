"""Damage as disks, downloads and strangers do it to files."""

from collections.abc import Iterable
import io
import pathlib
import random
import zipfile

import tensorflow as tf

# Numbers that sizes, offsets and indices are not.
_NUMBERS = tuple(number.to_bytes(4, 'little', signed=True) for number in (
    0, -1, 1, 2**31 - 1, -2**31, 2**16, 255))


def damaged(rng: random.Random, content: bytes) -> bytes:
  """Returns content with one damage.

  Args:
    rng: What chance is drawn from.
    content: Any file.
  """
  return rng.choice(_DAMAGES)(rng, content)


def _changed(rng, content):
  found = bytearray(content)
  for _ in range(rng.randint(1, 8)):
    found[rng.randrange(len(found))] = rng.randrange(256)
  return bytes(found)


def _number(rng, content):
  if len(content) < 8:
    return b''
  at = rng.randrange(0, len(content) - 4, 4)
  return content[:at] + rng.choice(_NUMBERS) + content[at + 4:]


def _cut(rng, content):
  return content[:rng.randrange(len(content))]


def _zeros(rng, content):
  at = rng.randrange(len(content))
  length = rng.randint(1, 200)
  return content[:at] + bytes(len(content[at:at + length])) + (
      content[at + length:])


def _missing(rng, content):
  at = rng.randrange(len(content))
  return content[:at] + content[at + rng.randint(1, 40):]


def _more(rng, content):
  at = rng.randrange(len(content))
  return content[:at] + rng.randbytes(rng.randint(1, 40)) + content[at:]


def _twice(rng, content):
  at = rng.randrange(len(content))
  return content[:at] + content[at // 2:]


def _other(rng, content):
  return rng.choice([
      b'', b'\n', rng.randbytes(500), b'<html>404 not found</html>',
      bytes(len(content)), content[::-1]])


_DAMAGES = (_changed, _changed, _number, _number, _cut, _zeros, _missing, _more,
            _twice, _other)


def records(rng: random.Random, contents: Iterable[bytes], path: str) -> None:
  """Writes records, some of which or whose file are damaged.

  Args:
    rng: What chance is drawn from.
    contents: The records.
    path: The file.
  """
  contents = list(contents)
  in_records = rng.random() < 0.7
  if in_records:
    for at in rng.sample(range(len(contents)), rng.randint(1, 3)):
      contents[at] = damaged(rng, contents[at])
  with tf.io.TFRecordWriter(path) as writer:
    for content in contents:
      writer.write(content)
  if not in_records:
    file = pathlib.Path(path)
    file.write_bytes(damaged(rng, file.read_bytes()))


def archive(rng: random.Random, content: bytes) -> bytes:
  """Returns a ZIP archive with a damage in one of its members, or around them.

  Args:
    rng: What chance is drawn from.
    content: The archive.
  """
  if rng.random() < 0.4:
    return damaged(rng, content)
  written = io.BytesIO()
  with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(
      written, 'w') as new:
    names = old.namelist()
    chosen = rng.choice(names)
    for name in names:
      member = old.read(name)
      if name == chosen and rng.random() < 0.1:
        continue
      new.writestr(name, damaged(rng, member) if name == chosen and member
                   else member)
  return written.getvalue()
