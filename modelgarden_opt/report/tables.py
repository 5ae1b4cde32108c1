"""Tables in Markdown."""

from collections.abc import Sequence


def markdown(
    header: Sequence[str], rows: Sequence[Sequence[str]], num_text: int = 1
) -> str:
  """Returns a Markdown table.

  Args:
    header: Headings.
    rows: Cells.
    num_text: Number of leading columns of text; the others are numbers and
      stand on the right.
  """
  rule = ['---' if i < num_text else '---:' for i in range(len(header))]
  return '\n'.join(
      '| ' + ' | '.join(row) + ' |' for row in (header, rule, *rows))
