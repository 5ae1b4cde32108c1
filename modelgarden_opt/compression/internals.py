"""What the package relies on in tf_keras and TensorFlow beyond their API.

Everything of that kind is here, so that an upgrade that breaks it is found in
one place; `tests/compression/test_internals.py` checks each assumption:

- `Model._flatten_layers()` yields every layer, those inside of blocks and of
  nested models included. `Model.submodules` does too, but looks into every
  attribute of every object, which takes seconds.
- `Layer.__setattr__` tracks variables and layers; what is put into the
  instance's dictionary is an attribute that Keras does not see.
- A tensor, eager or symbolic, keeps attributes that are set on it while it is
  handed from layer to layer inside of one `call`.
"""

from collections.abc import Iterator
import contextlib
from typing import Any

import tensorflow as tf
import tf_keras

_PREFIX = '_modelgarden_opt_'


def layers_of(model: tf_keras.layers.Layer) -> Iterator[tf_keras.layers.Layer]:
  """Yields a model or block itself and all layers in it, at any depth."""
  yield from model._flatten_layers()  # pylint: disable=protected-access


def set_untracked(layer: tf_keras.layers.Layer, **attributes: Any) -> None:
  """Sets attributes that Keras neither tracks nor saves."""
  layer.__dict__.update(attributes)


@contextlib.contextmanager
def replaced(
    layer: tf_keras.layers.Layer, **attributes: Any) -> Iterator[None]:
  """Replaces attributes of a layer for a while, past Keras' tracking.

  A float layer's own `call` then reads a tensor where its variable was, or a
  method is another one.

  Args:
    layer: The layer.
    **attributes: New values by name.
  """
  missing = object()
  before = {name: layer.__dict__.get(name, missing) for name in attributes}
  layer.__dict__.update(attributes)
  try:
    yield
  finally:
    for name, value in before.items():
      if value is missing:
        del layer.__dict__[name]
      else:
        layer.__dict__[name] = value


def mark(x: tf.Tensor, name: str, value: Any) -> tf.Tensor:
  """Returns a tensor with a value that travels with it."""
  setattr(x, _PREFIX + name, value)
  return x


def mark_of(x: Any, name: str, default: Any = None) -> Any:
  """Returns a value that travels with a tensor, else the default."""
  return getattr(x, _PREFIX + name, default)
