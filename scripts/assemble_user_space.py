"""Assembles the aarch64 user space of `modelgarden-opt target --arch=aarch64`.

Debian packages (Python and its libraries, 15 MB) and three wheels are
downloaded and unpacked into a directory; nothing is installed, root is not
needed. Takes a Debian or Ubuntu machine, pip, a minute, and 180 MB.

    python scripts/assemble_user_space.py
    modelgarden-opt target --tflite=model.tflite --device=cpu --arch=aarch64

Where the machine's own apt sources have no arm64 packages (Ubuntu),
`--sources` names a file of lines such as
`deb [trusted=yes] http://deb.debian.org/debian bookworm main`.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from modelgarden_opt import errors
from modelgarden_opt.targets import user_space


def main() -> int:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument(
      '--output_dir', default=user_space.default_directory('aarch64'),
      help='default: %(default)s')
  parser.add_argument('--sources', default='', help='apt sources to use')
  args = parser.parse_args()
  try:
    user_space.assemble(args.output_dir, args.sources)
  except errors.UsageError as e:
    print(e, file=sys.stderr)
    return 2
  except errors.Failure as e:
    print(e, file=sys.stderr)
    return 1
  print(f'{args.output_dir}: user space for aarch64')
  return 0


if __name__ == '__main__':
  sys.exit(main())
