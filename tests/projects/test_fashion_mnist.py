"""What the study hands to the peer computes what ours does."""

import subprocess
import sys

import pytest

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
