"""Config-driven compression of TensorFlow Model Garden vision models.

`import modelgarden_opt` imports no TensorFlow: what is below is imported when
it is used first.
"""

import importlib
from typing import Any

__version__ = '0.2.0'

# Name in this package -> the module that it is in.
_PUBLIC = {
    'compress': 'modelgarden_opt.api.compressing',
    'calibrate': 'modelgarden_opt.api.compressing',
    'save': 'modelgarden_opt.api.compressing',
    'load_model': 'modelgarden_opt.api.compressing',
    'evaluate': 'modelgarden_opt.api.measuring',
    'CompressionCallback': 'modelgarden_opt.training.compression_callback',
    'Quantization': 'modelgarden_opt.configs.quantization',
    'Pruning': 'modelgarden_opt.configs.pruning',
    'Clustering': 'modelgarden_opt.configs.clustering',
    'UsageError': 'modelgarden_opt.errors',
}
# Parts of the package that are called, see `callable_module`.
_PARTS = ('export', 'benchmark')


def __getattr__(name: str) -> Any:
  """Returns a function or class of the package, imported now."""
  if name in _PARTS:
    return importlib.import_module(f'modelgarden_opt.{name}')
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *_PUBLIC, *_PARTS})
