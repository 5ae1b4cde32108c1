"""The sub-command `modelgarden-opt evaluate`, with the same flags."""

import sys

from modelgarden_opt.cli import main

if __name__ == '__main__':
  sys.exit(main.main(['evaluate', *sys.argv[1:]]))
