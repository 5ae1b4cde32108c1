"""Flags of the commands that pages and modules print of `projects` exist."""

import re

from tests import conftest

ROOT = conftest.REPOSITORY
_COMMAND = re.compile(r'python -m (projects(?:\.\w+)+)((?: +--[\w]+\S*)*)')
_IMPORT = re.compile(r'^from (projects(?:\.\w+)*) import (\w+)', re.M)


def _source(module):
  """Returns the text of a module and of those of `projects` it imports."""
  text = ROOT.joinpath(*module.split('.')).with_suffix('.py').read_text()
  return text + ''.join(
      path.read_text() for path in (
          ROOT.joinpath(*parent.split('.'), f'{name}.py')
          for parent, name in _IMPORT.findall(text)) if path.exists())


def test_flags_of_printed_commands_are_those_of_the_module():
  wrong, seen = [], 0
  pages = [*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'),
           *ROOT.glob('projects/**/*.md'), *ROOT.glob('projects/**/*.py')]
  for page in pages:
    text = page.read_text().replace('\\\n', ' ')
    for module, given in _COMMAND.findall(text):
      if not ROOT.joinpath(*module.split('.')).with_suffix('.py').exists():
        continue  # A package, see `test_paths`.
      source = _source(module)
      for flag in re.findall(r'--\w+', given):
        seen += 1
        if f"'{flag}'" not in source:
          wrong.append(f'{page.relative_to(ROOT)}: {module} {flag}')
  assert not wrong
  assert seen > 10
