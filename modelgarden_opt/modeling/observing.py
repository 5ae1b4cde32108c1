"""Watches or replaces what the layers of a model compute, for a while."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import functools
from typing import Any

import tf_keras

from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves


@contextlib.contextmanager
def calls(
    layers: Iterable[tf_keras.layers.Layer], around: Callable[..., Any]
) -> Iterator[None]:
  """Runs `around(layer, call, inputs)` in place of every layer's computation.

  Of a rewired layer that is the float op without its quantizers.

  Args:
    layers: Layers of a model.
    around: Gets the layer, its own computation and what it is called with, and
      returns the output.
  """
  with contextlib.ExitStack() as stack:
    for layer in layers:
      name = '_call_float' if isinstance(layer, leaves.Rewired) else 'call'
      stack.enter_context(internals.replaced(layer, **{
          name: functools.partial(around, layer, getattr(layer, name))}))
    yield
