"""Tables are those of the kept results; a peer starts from our weights."""

import pathlib
import subprocess
import sys

import pytest

from projects.fashion_mnist import bits
from projects.fashion_mnist import collect

_SCRIPT = """
from projects.fashion_mnist import peer
from modelgarden_opt.tasks import run_directory
peer.plain(run_directory.load('projects/fashion_mnist/float/mobilenet_v2'))
"""


@pytest.mark.slow
def test_the_peer_starts_from_the_same_function():
  # In a process of its own: the peer registers names that are ours here.
  # `plain` itself compares the outputs of both models.
  subprocess.run([sys.executable, '-c', _SCRIPT], check=True)


_TABLES = [
    *((collect.README, *section) for section in collect.sections().items()),
    (collect.README, 'bits', bits.table()),
    (collect.PROJECT_README, 'fashion_mnist', collect.summary())]


@pytest.mark.parametrize(
    'page, name, expected', _TABLES, ids=[name for _, name, _ in _TABLES])
def test_the_committed_tables_are_of_the_kept_results(page, name, expected):
  section = pathlib.Path(page).read_text().split(f'<!-- {name} -->\n')[1]
  assert section.split(f'\n<!-- /{name} -->')[0] == expected, (
      'python -m projects.fashion_mnist.collect --render; '
      'python -m projects.fashion_mnist.bits')
