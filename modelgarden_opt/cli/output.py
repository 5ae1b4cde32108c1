"""Results of a command: JSON for machines, a table for people."""

import argparse
from collections.abc import Sequence
from typing import Any


def add_flag(parser: argparse.ArgumentParser) -> None:
  """Adds `--output_json`."""
  parser.add_argument('--output_json', metavar='PATH',
                      help='also write the results to this file')


def write(args: argparse.Namespace, value: Any) -> None:
  """Writes the results if `--output_json` asks for it."""
  if args.output_json:
    from modelgarden_opt import files  # pylint: disable=g-import-not-at-top
    files.write_json(args.output_json, value)


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
