"""The YAML files that come with the project, in a clone or installed."""

import functools
import pathlib

from modelgarden_opt import errors
from modelgarden_opt import files

_PACKAGE = 'modelgarden_opt'
# Where an installation keeps them, below its data directory; see setup.cfg.
_INSTALLED = f'share/{_PACKAGE}/'
_DIRECTORY = 'configs/'


@functools.cache
def _files() -> dict[str, str]:
  """Returns the file of every path as documents give it, `configs/...`."""
  clone = pathlib.Path(__file__).resolve().parents[2]
  if (clone / _DIRECTORY).is_dir():
    return {path.relative_to(clone).as_posix(): str(path)
            for path in sorted((clone / _DIRECTORY).rglob('*.yaml'))}
  found = {}
  from importlib import metadata  # pylint: disable=g-import-not-at-top
  for file in metadata.files(_PACKAGE) or ():
    _, inside, rest = file.as_posix().partition(_INSTALLED + _DIRECTORY)
    if inside and rest.endswith('.yaml'):
      found[_DIRECTORY + rest] = str(file.locate())
  return dict(sorted(found.items()))


def locate(path: str) -> str:
  """Returns where a file is that documents call `configs/...`.

  Args:
    path: A path. A file that is there wins; other paths are returned as is.
  """
  return path if files.exists(path) else _files().get(path, path)


def paths() -> dict[str, str]:
  """Returns the files by name, such as `digits_mobilenet_v2_qat`.

  A pipeline is named by its path, such as `pipelines/digits_mobilenet_v2`.
  """
  return {_name(path): file for path, file in _files().items()}


def _name(path: str) -> str:
  name = path.removeprefix(_DIRECTORY).removesuffix('.yaml')
  return name if name.startswith('pipelines/') else name.rsplit('/')[-1]


def find(name: str) -> str:
  """Returns the file of a name, with or without `.yaml`.

  Raises:
    UsageError: If there is none.
  """
  found = paths()
  name = name.removesuffix('.yaml')
  if name not in found:
    raise errors.UsageError(
        f'from: no YAML file {name!r} is shipped{errors.nearest(name, found)}')
  return found[name]
