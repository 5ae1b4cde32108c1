"""The table that `recommend` follows is the one that the documents show."""

from scripts import render_docs
from tests import conftest

PAGE = conftest.REPOSITORY / render_docs.DECISIONS


def test_the_committed_table_is_what_the_command_writes():
  section = PAGE.read_text().split('<!-- decisions -->\n')[1].split(
      '\n<!-- /decisions -->')[0]
  assert section == render_docs.decisions(), 'run `make docs`'
