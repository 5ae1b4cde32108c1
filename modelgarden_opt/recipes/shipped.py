"""The YAML files that come with the project, in a clone or installed."""

from importlib import metadata
import pathlib

from modelgarden_opt import errors

_PACKAGE = 'modelgarden_opt'
# Where an installation keeps them, below its data directory; see setup.cfg.
_INSTALLED = f'share/{_PACKAGE}/configs/'


def paths() -> dict[str, pathlib.Path]:
  """Returns the files by name, such as `digits_mobilenet_v2_qat`.

  A pipeline is named by its path, such as `pipelines/digits_mobilenet_v2`.
  """
  clone = pathlib.Path(__file__).resolve().parents[2] / 'configs'
  if clone.is_dir():
    found = {path.relative_to(clone): path for path in clone.rglob('*.yaml')}
  else:
    found = {}
    for file in metadata.files(_PACKAGE) or ():
      _, inside, rest = file.as_posix().partition(_INSTALLED)
      if inside and rest.endswith('.yaml'):
        found[pathlib.PurePosixPath(rest)] = pathlib.Path(file.locate())
  return {_name(relative): path for relative, path in sorted(found.items())}


def _name(relative: pathlib.PurePath) -> str:
  name = relative.with_suffix('').as_posix()
  return name if name.startswith('pipelines/') else relative.stem


def find(name: str) -> pathlib.Path:
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
