"""Tables in Markdown, and the line that says where they are from."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any


def markdown(
    header: Sequence[str], rows: Sequence[Sequence[str]], num_text: int = 1
) -> str:
  """Returns a Markdown table.

  Args:
    header: Headings.
    rows: Cells.
    num_text: Number of leading columns of text; the others are numbers and
      aligned to the right.
  """
  rule = ['---' if i < num_text else '---:' for i in range(len(header))]
  return '\n'.join(
      '| ' + ' | '.join(row) + ' |' for row in (header, rule, *rows))


def measured_on(environment: Mapping[str, Any]) -> str:
  """Returns machine and versions of a benchmark as one sentence."""
  found = ', '.join(f'{key} {value}' for key, value in environment.items())
  return f'Measured on: {found}.'
