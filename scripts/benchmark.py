"""The sub-command `modelgarden-opt benchmark`, with the same flags."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from modelgarden_opt.cli import main

if __name__ == '__main__':
  sys.exit(main.main(['benchmark', *sys.argv[1:]]))
