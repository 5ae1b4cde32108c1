"""Watches or replaces what the layers of a model compute, for a while."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import functools
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression.quantization import quantizers
from modelgarden_opt.modeling import calibration


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


def activation_quantizers(
    model: tf_keras.Model) -> list[quantizers.ActivationQuantizer]:
  """Returns the quantizers of activations that a model calls."""
  return [q for q in calibration.quantizers_of(model)
          if isinstance(q, quantizers.ActivationQuantizer)
          and q.maximum is not None]


@contextlib.contextmanager
def activations(
    model: tf_keras.Model,
    around: Callable[[quantizers.ActivationQuantizer, tf.Tensor], tf.Tensor],
    kernels: calibration.Mode = calibration.Mode.PASS_THROUGH,
) -> Iterator[None]:
  """Runs `around(quantizer, x)` in place of every activation's quantization.

  Functions that are traced here do so later, too.

  Args:
    model: A quantized model.
    around: Returns what the next layer reads in place of `x`.
    kernels: What the quantizers of kernels do meanwhile.
  """
  found = activation_quantizers(model)
  with calibration.quantizer_mode(model, kernels):
    for quantizer in found:
      quantizer.mode = calibration.Mode.REPLACED
      quantizer.replacement = functools.partial(around, quantizer)
    try:
      yield
    finally:
      for quantizer in found:
        quantizer.replacement = None
