"""Writes schema.json from the dataclasses: part of `make docs`.

With --check nothing is written: the exit code is 1 if the file is another one.
"""

import functools
import os
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def text() -> str:
  """Returns the text of the file."""
  # pylint: disable=g-import-not-at-top
  from official.modeling.hyperparams import base_config

  from modelgarden_opt.configs import catalog
  from modelgarden_opt.configs import overrides
  from modelgarden_opt.configs.schema import stored
  # Evaluated for every field that is set, hints of classes take most of the
  # time. They do not change.
  base_config.Config._get_annotations = classmethod(functools.cache(  # pylint: disable=protected-access
      base_config.Config._get_annotations.__func__))  # pylint: disable=protected-access
  found = {}
  for name in catalog.EXPERIMENTS:
    config = overrides.base(name)
    config.task.name = name
    found[name] = overrides.described(config)
  return stored.write(found)


def main() -> int:
  """Writes the file."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import files
  from modelgarden_opt.configs.schema import stored
  if sys.argv[1:] == ['--check']:
    with open(stored.PATH, encoding='utf-8') as f:
      return int(f.read() != text())
  files.write_atomically(str(stored.PATH), text())
  return 0


if __name__ == '__main__':
  sys.exit(main())
