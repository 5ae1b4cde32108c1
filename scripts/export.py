"""Same as `modelgarden-opt export`; flags: `python scripts/export.py --help`."""

import sys

from modelgarden_opt.cli import main

if __name__ == '__main__':
  sys.exit(main.main(['export', *sys.argv[1:]]))
