"""The sub-command `modelgarden-opt train`, with the same flags."""

import sys

from modelgarden_opt.cli import main

if __name__ == '__main__':
  sys.exit(main.main(['train', *sys.argv[1:]]))
