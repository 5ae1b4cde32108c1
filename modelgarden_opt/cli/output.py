"""Results of a command: JSON for machines, a table for people."""

import argparse
from collections.abc import Callable
from collections.abc import Sequence
import os
from typing import Any

from modelgarden_opt import errors


def add_flag(parser: argparse.ArgumentParser) -> None:
  """Adds `--output_json`."""
  parser.add_argument('--output_json', metavar='PATH',
                      help='also write the results to this file')


def assert_writable(args: argparse.Namespace) -> None:
  """Raises `UsageError` for a directory that cannot be written.

  For commands whose work would be lost; directories that are not there are
  made when they are needed.
  """
  path = args.output_json
  if not path or '://' in path:
    return
  directory = os.path.dirname(os.path.abspath(path))
  while not os.path.exists(directory):
    directory = os.path.dirname(directory)
  if not os.path.isdir(directory) or not os.access(directory, os.W_OK):
    raise errors.UsageError(
        f'output_json: {path!r} cannot be written: {directory!r} is no '
        'directory, or read-only')


def write(args: argparse.Namespace, value: Any) -> None:
  """Writes the results if `--output_json` asks for it.

  Raises:
    UsageError: If the file cannot be written.
  """
  if not args.output_json:
    return
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import files
  failures = OSError
  if '://' in args.output_json:
    import tensorflow as tf
    failures = (tf.errors.OpError, OSError)
  try:
    files.write_json(args.output_json, value)
  except failures as e:
    raise errors.UsageError(
        f'output_json: {args.output_json!r} cannot be written: '
        f'{errors.of_op(e)}') from None


def add_html_flag(parser: argparse.ArgumentParser) -> None:
  """Adds `--output_html`."""
  parser.add_argument('--output_html', metavar='PATH',
                      help='also write a page with the results to this file')


def write_html(
    args: argparse.Namespace, make: Callable[[Any], str]) -> None:
  """Writes a page if `--output_html` asks for it.

  Args:
    args: The arguments.
    make: Returns the page, from the module `report.pages`.
  """
  if args.output_html:
    # pylint: disable=g-import-not-at-top
    from modelgarden_opt import files
    from modelgarden_opt.report import pages
    files.write_atomically(args.output_html, make(pages))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns rows as aligned text, columns of numbers to the right."""
  lines = []
  columns = list(zip(header, *rows))
  widths = [max(map(len, column)) for column in columns]
  numeric = [any(_is_number(cell) for cell in column[1:]) for column in columns]
  for row in (header, *rows):
    cells = [cell.rjust(width) if right else cell.ljust(width)
             for cell, width, right in zip(row, widths, numeric)]
    lines.append('  '.join(cells).rstrip())
  return '\n'.join(lines)


def _is_number(cell: str) -> bool:
  return cell[:1].isdigit() and cell.strip('%x').replace(',', '').replace(
      '.', '', 1).isdigit()
