"""What measures the cost of replicas and workers runs."""

import re
import subprocess
import sys

import pytest

from tests import conftest

_RATIO = re.compile(r'(\d+\.\d+)x \[')


@pytest.mark.slow
@pytest.mark.parametrize('argv', [
    ['replicas', '--technique=qat'],
    ['replicas', '--technique=pruning'],
    ['replicas', '--technique=clustering'],
    ['workers', '--experiment=mobilenet_v2_qat'],
], ids='-'.join)
def test_a_cost_is_measured(argv):
  name, *flags = argv
  done = subprocess.run(
      [sys.executable, '-m', f'projects.model_garden_bench.{name}', *flags,
       '--image_size=32', '--batch_size=2', '--rounds=3'],
      cwd=conftest.REPOSITORY, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  ratio = float(_RATIO.search(done.stdout).group(1))
  assert 0.1 < ratio < 10.0
