"""Commands in a process of their own, which must not import TensorFlow."""

from collections.abc import Sequence
import subprocess
import sys

from tests import conftest

_SCRIPT = """
import sys
from modelgarden_opt.cli import main
try:
  code = main.main({argv!r})
except SystemExit as e:
  code = e.code
assert "tensorflow" not in sys.modules, "TensorFlow was imported"
sys.exit(code)
"""


def run(argv: Sequence[str]) -> subprocess.CompletedProcess:
  """Runs a command; its exit code and output are those of the result."""
  finished = subprocess.run(
      [sys.executable, '-c', _SCRIPT.format(argv=list(argv))], check=False,
      capture_output=True, text=True, cwd=conftest.REPOSITORY)
  assert 'TensorFlow was imported' not in finished.stderr, finished.stderr
  return finished
