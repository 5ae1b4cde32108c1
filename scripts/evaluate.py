"""Same as `modelgarden-opt evaluate`; flags: `python scripts/evaluate.py --help`."""

import sys

from modelgarden_opt.cli import main

if __name__ == '__main__':
  sys.exit(main.main(['evaluate', *sys.argv[1:]]))
