"""The sub-command `modelgarden-opt export`, with the same flags."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from modelgarden_opt.cli import main

if __name__ == '__main__':
  sys.exit(main.main(['export', *sys.argv[1:]]))
