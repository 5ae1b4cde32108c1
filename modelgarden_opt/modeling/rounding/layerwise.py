"""Rounds the kernels of a quantized model, layer by layer."""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib

from absl import logging
import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression.quantization import kernel_quantizer
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import observing
from modelgarden_opt.modeling.rounding import adaround
from modelgarden_opt.modeling.rounding import moments

# Of a batch, in a layer as large as the image.
_PIXELS = 2**20


def round_kernels(
    model: tf_keras.Model,
    batches: Iterable[tf.Tensor],
    settings: adaround.Settings = adaround.SETTINGS,
) -> list[str]:
  """Sets kernels to grid values that change the outputs of layers least.

  Layers are rounded in the order in which they run: each sees the errors of
  those before it, and is compared with what it computes in the float model.
  Rounding the kernels once more, as the model and its file do, changes nothing.

  Args:
    model: A quantized model with calibrated ranges. Of its kernels those whose
      quantizer says so are rounded.
    batches: Images [b, height, width, channels], kept in memory.
    settings: How the numbers are found.

  Returns:
    Paths of the layers that were rounded.

  Raises:
    ValueError: If there is no batch.
  """
  batches = _regrouped(list(batches))
  calls = _calls(model, batches[0])
  floats = {layer: layer.kernel_variable.numpy() for layer in calls}
  rounded = {}
  for layer, count in calls.items():
    found = moments.Moments(layer)
    for images in batches:
      quantized = _inputs(
          model, layer, count, images, calibration.Mode.QUANTIZE)
      with _kernels(floats, rounded):
        of_float = _inputs(
            model, layer, count, images, calibration.Mode.PASS_THROUGH)
      for pair in zip(quantized, of_float, strict=True):
        found.add(*pair)
    rounded[layer] = _rounded(layer, found, settings)
    layer.kernel_variable.assign(rounded[layer])
    changed = np.mean(rounded[layer] != floats[layer])
    logging.info('Rounded %s: %.0f %% of %d weights moved.', layer.path,
                 100 * changed, floats[layer].size)
  return [layer.path for layer in calls]


def _regrouped(batches: list[tf.Tensor]) -> list[tf.Tensor]:
  """Returns batches of so many images that calling layers takes no time."""
  if not batches:
    raise ValueError('there is no data to round kernels with')
  images = tf.concat(batches, axis=0)
  height, width = images.shape[1:3]
  size = max(1, _PIXELS // (height * width))
  return [images[i:i + size] for i in range(0, images.shape[0], size)]


def quantizer_of(
    layer: leaves.Rewired) -> kernel_quantizer.KernelQuantizer | None:
  """Returns the quantizer of a layer's kernel, None without one."""
  return next((transform for transform in layer.chain or ()
               if transform.technique == 'quantization'), None)


def _calls(
    model: tf_keras.Model, images: tf.Tensor) -> Mapping[leaves.Rewired, int]:
  """Returns how often the layers to be rounded run, in their order."""
  wanted = []
  for layer in internals.layers_of(model):
    quantizer = isinstance(layer, leaves.Rewired) and quantizer_of(layer)
    if quantizer and quantizer.rounding == quantization_cfg.ADAROUND and (
        moments.supports(layer)):
      wanted.append(layer)
  calls = collections.Counter()

  def note(layer, call, *args):
    calls[layer] += 1
    return call(*args)

  with observing.calls(wanted, note):
    model(images[:1], training=False)
  return calls


class _Enough(BaseException):
  """Nothing that is computed after this matters."""


def _inputs(
    model: tf_keras.Model,
    layer: leaves.Rewired,
    count: int,
    images: tf.Tensor,
    mode: calibration.Mode,
) -> list[tf.Tensor]:
  """Returns what a layer reads in each of its calls."""
  found = []

  def note(layer, call, inputs, *args):
    found.append(inputs)
    if len(found) == count:
      raise _Enough
    return call(inputs, *args)

  with calibration.quantizer_mode(model, mode):
    with observing.calls([layer], note), contextlib.suppress(_Enough):
      model(images, training=False)
  return found


@contextlib.contextmanager
def _kernels(
    values: Mapping[leaves.Rewired, np.ndarray],
    afterwards: Mapping[leaves.Rewired, np.ndarray],
) -> Iterator[None]:
  """Gives layers other kernels for a while.

  Args:
    values: The kernels.
    afterwards: Those that are restored; of other layers nothing changes.
  """
  for layer in afterwards:
    layer.kernel_variable.assign(values[layer])
  try:
    yield
  finally:
    for layer, kernel in afterwards.items():
      layer.kernel_variable.assign(kernel)


def _rounded(
    layer: leaves.Rewired,
    found: moments.Moments,
    settings: adaround.Settings,
) -> np.ndarray:
  """Returns the rounded kernel of a layer."""
  kernel, quantizer = layer.kernel_variable.numpy(), quantizer_of(layer)
  kind = layer.layer_type
  step = np.broadcast_to(quantizer.step_of(kernel), kernel.shape)
  steps = moments.as_matrices(step, kind)
  integers = adaround.round_weights(
      moments.as_matrices(kernel, kind), steps, quantizer.largest,
      found.of_quantized, found.of_both, settings)
  values = moments.as_kernel(integers * steps, kernel.shape, kind)
  return values.astype(np.float32)
