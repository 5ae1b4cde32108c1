"""The sub-command `modelgarden-opt export`, with the same flags."""

import sys

from modelgarden_opt.cli import main

if __name__ == '__main__':
  sys.exit(main.main(['export', *sys.argv[1:]]))
