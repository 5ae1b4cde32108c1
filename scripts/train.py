"""Same as `modelgarden-opt train`; flags: `python scripts/train.py --help`."""

import sys

from modelgarden_opt.cli import main

if __name__ == '__main__':
  sys.exit(main.main(['train', *sys.argv[1:]]))
