"""Results of a command: JSON for machines, a table for people."""

import argparse
from collections.abc import Sequence
from typing import Any


def add_flag(parser: argparse.ArgumentParser) -> None:
  """Adds `--output_json`."""
  parser.add_argument('--output_json', metavar='PATH',
                      help='write the results there, too')


def write(args: argparse.Namespace, value: Any) -> None:
  """Writes the results if `--output_json` asks for it."""
  if args.output_json:
    from modelgarden_opt import files  # pylint: disable=g-import-not-at-top
    files.write_json(args.output_json, value)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns rows as aligned text, numbers to the right."""
  cells = [list(header), *[list(row) for row in rows]]
  widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
  lines = []
  for row in cells:
    first = row[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
    lines.append('  '.join([first, *rest]).rstrip())
  return '\n'.join(lines)
