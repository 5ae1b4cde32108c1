"""Same as `modelgarden-opt benchmark`; flags: `python scripts/benchmark.py --help`."""

import sys

from modelgarden_opt.cli import main

if __name__ == '__main__':
  sys.exit(main.main(['benchmark', *sys.argv[1:]]))
