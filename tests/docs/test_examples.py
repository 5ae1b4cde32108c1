"""The Python examples of the documentation run, in the order of a page."""

import os
import re

import pytest

from modelgarden_opt.compression import recipes
from tests import conftest

_BLOCK = re.compile(r'^```python\n(.*?)^```', re.M | re.S)
PAGES = ['docs/python.md', 'docs/extending.md']
# A model from `compress` to its verified file.
MAX_LINES = 15


def _blocks(page):
  return _BLOCK.findall((conftest.REPOSITORY / page).read_text())


@pytest.mark.parametrize('page', PAGES)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  before = set(recipes.RECIPES)
  namespace = {'__name__': 'example'}
  blocks = _blocks(page)
  assert blocks
  for block in blocks:
    exec(compile(block, page, 'exec'), namespace)  # pylint: disable=exec-used
  for name in recipes.RECIPES.keys() - before:
    recipes.unregister(name)
  if page == 'docs/python.md':
    assert {'model.tflite', 'model.keras'} <= {*os.listdir(tmp_path)}


def test_from_compress_to_a_verified_file_it_takes_few_lines():
  code = '\n'.join(_blocks('docs/python.md')[:2])
  lines = [line for line in code.splitlines()
           if line.strip() and not line.strip().startswith('#')]
  start = next(i for i, line in enumerate(lines) if '.compress(' in line)
  assert '.export(' in code
  assert len(lines) - start <= MAX_LINES
