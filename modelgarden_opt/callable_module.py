"""Parts of the package that are functions as well: `modelgarden_opt.export()`.

`modelgarden_opt.export` is the part once anything has imported it, and users
call the function of that name. So the part calls it.
"""

import importlib
import sys
import types
from typing import Any


class CallableModule(types.ModuleType):
  """A module that stands for a function, which is imported when it is called.
  """

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    module, _, name = self.__function__.partition(':')
    return getattr(importlib.import_module(module), name)(*args, **kwargs)


def make(module: str, function: str) -> None:
  """Makes a module callable.

  Args:
    module: Its name; it is being imported.
    function: `module:name` of what it calls.
  """
  sys.modules[module].__function__ = function
  sys.modules[module].__class__ = CallableModule
