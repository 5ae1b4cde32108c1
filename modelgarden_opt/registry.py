"""Functions that a configuration names, and that users add their own to."""

from collections.abc import Callable


class Registry(dict[str, Callable]):
  """Functions by name.

      @COSTS.register('energy')
      def energy(...):
  """

  def __init__(self, kind: str):
    """Initializes the registry.

    Args:
      kind: What it holds, for messages.
    """
    super().__init__()
    self._kind = kind

  def register(self, name: str) -> Callable[[Callable], Callable]:
    """Returns a decorator that adds a function.

    Raises:
      ValueError: If there is one of that name.
    """
    if name in self:
      raise ValueError(f'{self._kind} {name!r} is registered already')

    def add(function: Callable) -> Callable:
      self[name] = function
      return function

    return add
