"""How far every layer of a quantized model is from its float counterpart.

Both run on the same images, in one traced function: once with all quantizers
off, once with all of them on. So the error of a layer is that of a file, which
begins at the image, and not that of the layer alone; that stands beside it.
"""

from collections.abc import Callable
import contextlib
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from modelgarden_opt.analysis import signals
from modelgarden_opt.analysis import subject
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import mixins
from modelgarden_opt.compression.quantization import bias
from modelgarden_opt.compression.quantization import quantizers
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import observing
from modelgarden_opt.modeling.rounding import layerwise

# Of a batch, in a layer as large as the image. Activations of the whole model
# are kept meanwhile.
_PIXELS = 2**19
_MOST_IMAGES = 128


@dataclasses.dataclass(kw_only=True)
class LayerError(signals.TensorError):
  """The error of one layer; `layer` is its path, as rules use it.

  Attributes:
    layer_type: Class name of the float layer.
    bits: Bits of its kernel.
    own_sqnr_db: SQNR of its quantized activation alone, on float input.
    kernel_sqnr_db: That of its kernel.
  """
  layer_type: str
  bits: int | None = None
  own_sqnr_db: float | None = None
  kernel_sqnr_db: float | None = None


def measure(
    found: subject.Subject, images: np.ndarray) -> list[LayerError]:
  """Returns the errors of all layers, in the order in which they run.

  Args:
    found: A quantized model.
    images: float32 array [n, height, width, channels], n >= 1.
  """
  model = found.run.model
  comparison = _Comparison(found)
  signature = tf.TensorSpec([None, *images.shape[1:]], tf.float32)
  step = tf.function(comparison, input_signature=[signature], autograph=False)
  height, width = images.shape[1:3]
  size = min(_MOST_IMAGES, max(1, _PIXELS // (height * width)))
  total: dict[str, dict[str, np.ndarray]] = {}
  for start in range(0, len(images), size):
    for path, values in step(tf.constant(images[start:start + size])).items():
      _accumulate(total.setdefault(path, {}), values)
  found_errors = {}
  for path, values in total.items():
    found_errors[path] = _error(
        path, comparison.types.get(path, 'block'), values)
  _add_kernels(found_errors, model)
  return list(found_errors.values())


# Sums are added; of extremes the farther one is kept.
_EXTREMES: dict[str, Callable] = {'lowest': min, 'highest': max}
# The same in every batch.
_CONSTANT = ('minimum', 'maximum')


def _accumulate(total: dict[str, Any], values: dict[str, tf.Tensor]) -> None:
  for name, value in values.items():
    value = float(value)
    if name in _CONSTANT or name not in total:
      total[name] = value
    elif name in _EXTREMES:
      total[name] = _EXTREMES[name](total[name], value)
    else:
      total[name] += value


class _Comparison:
  """Runs the model twice, and compares tensor by tensor.

  Attributes:
    types: Class names of the float layers by path.
  """

  def __init__(self, found: subject.Subject):
    self._model = found.run.model
    self.types = {
        layer.path: getattr(layer, 'layer_type', 'Activation')
        for layer in internals.layers_of(self._model)
        if getattr(layer, 'path', '')}
    self._layers = [
        layer for layer in internals.layers_of(self._model)
        if isinstance(layer, leaves.Rewired) and (
            layerwise.quantizer_of(layer) is not None
            or isinstance(layer, mixins.RewiredNorm))]

  def __call__(self, images: tf.Tensor) -> dict[str, dict[str, tf.Tensor]]:
    floats, quantized = _Recorder(self._layers), _Recorder(self._layers)
    mode = calibration.Mode
    with floats.of(self._model, lambda q, x: x, mode.PASS_THROUGH):
      self._model(images, training=False)
    with quantized.of(self._model, _quantize, mode.QUANTIZE):
      self._model(images, training=False)
    found: dict[str, dict[str, tf.Tensor]] = {}
    for (path, x), (_, y) in zip(
        floats.outputs, quantized.outputs, strict=True):
      _sum(found, path, signals.energies(x, y))
    for (q, x), (_, y) in zip(
        floats.activations, quantized.activations, strict=True):
      _sum(found, q.path, _of_activation(q, x, q.quantized(y)))
    for path, error, size in quantized.biases:
      _sum(found, path, {'bias_noise': error * size})
    return found


def _sum(
    found: dict[str, dict[str, tf.Tensor]],
    path: str,
    values: dict[str, tf.Tensor],
) -> None:
  """Adds values to those of a path; the last range and output are kept."""
  known = found.setdefault(path, {})
  for name, value in values.items():
    if name in _EXTREMES or name in _CONSTANT or name not in known:
      known[name] = value
    else:
      known[name] += value


def _quantize(q: quantizers.ActivationQuantizer, x: tf.Tensor) -> tf.Tensor:
  return bias.with_step(q.quantized(x), q.step)


def _of_activation(
    q: quantizers.ActivationQuantizer, x: tf.Tensor, y: tf.Tensor
) -> dict[str, tf.Tensor]:
  """Returns what a batch says about one quantizer.

  Args:
    q: The quantizer.
    x: What it reads in the float model.
    y: What it makes in the quantized model.
  """
  low, high = tf.convert_to_tensor(q.minimum), tf.convert_to_tensor(q.maximum)
  half = q.step / 2.0
  own = signals.energies(x, q.quantized(x))
  at_end = (y > high - half) | ((y < low + half) & (low < -half))

  def count(where):
    return tf.reduce_sum(tf.cast(where, tf.float32))

  return {
      **{f'activation_{name}': value
         for name, value in signals.energies(x, y).items()},
      **{f'own_{name}': value for name, value in own.items()},
      'clipped': count((x > high + half) | (x < low - half)),
      'saturated': count(at_end),
      'size': tf.cast(tf.size(x), tf.float32),
      'lowest': tf.reduce_min(x), 'highest': tf.reduce_max(x),
      'minimum': low, 'maximum': high}


class _Recorder:
  """What layers and quantizers do in one run of a model.

  Attributes:
    outputs: Path and output of the ops of layers, in their order.
    activations: Quantizers of activations with what they read.
    biases: Path, mean squared rounding error of the biases, size of the output.
  """

  def __init__(self, layers: list[leaves.Rewired]):
    self._layers = layers
    self.outputs: list[tuple[str, tf.Tensor]] = []
    self.activations: list[
        tuple[quantizers.ActivationQuantizer, tf.Tensor]] = []
    self.biases: list[tuple[str, tf.Tensor, tf.Tensor]] = []

  @contextlib.contextmanager
  def of(self, model, quantize, kernels: calibration.Mode):
    """Records what a model does inside of the context."""

    def around(q, x):
      self.activations.append((q, x))
      return quantize(q, x)

    with observing.activations(model, around, kernels):
      with observing.calls(self._layers, self._note):
        yield

  def _note(self, layer: leaves.Rewired, call, inputs, *args):
    outputs = call(inputs, *args)
    self.outputs.append((layer.path, outputs))
    error = _bias_error(layer, inputs)
    if error is not None:
      self.biases.append((
          layer.path, tf.reduce_mean(tf.square(error)),
          tf.cast(tf.size(outputs), tf.float32)))
    return outputs


def _bias_error(
    layer: leaves.Rewired, inputs: tf.Tensor) -> tf.Tensor | None:
  """Returns what int32 storage adds to the biases of a layer, if it has any."""
  if isinstance(layer, mixins.RewiredNorm):
    step = bias.accumulator_step_of(inputs)
    if step is None:
      return None
    scale, offset = layer._scale_and_offset()  # pylint: disable=protected-access
    return bias.rounding_error(offset, step * tf.abs(scale))
  step = bias.step_of(inputs)
  if step is None or not layer.use_bias:
    return None
  quantizer = layerwise.quantizer_of(layer)
  kernel_step = quantizer.step(tf.convert_to_tensor(layer.kernel_variable))
  return None if kernel_step is None else (
      bias.rounding_error(layer.bias, step * kernel_step))


def _error(path: str, kind: str, sums: dict[str, float]) -> LayerError:
  """Returns the error of a layer from sums over all samples."""
  result = LayerError(layer=path, layer_type=kind)
  if 'size' in sums:
    result.sqnr_db = signals.sqnr_db(
        {'signal': sums['activation_signal'],
         'noise': sums['activation_noise']})
    result.own_sqnr_db = signals.sqnr_db(
        {'signal': sums['own_signal'], 'noise': sums['own_noise']})
    result.clipped = sums['clipped'] / sums['size']
    result.saturated = sums['saturated'] / sums['size']
    result.range_use = _range_use(sums)
  if 'signal' in sums:
    result.sqnr_db = signals.sqnr_db(sums)
    if 'bias_noise' in sums and sums['signal']:
      result.bias_rounding = float(
          np.sqrt(sums['bias_noise'] / sums['signal']))
  return result


def _range_use(sums: dict[str, float]) -> float:
  low = max(sums['lowest'], sums['minimum'])
  high = min(sums['highest'], sums['maximum'])
  width = sums['maximum'] - sums['minimum']
  return max(0.0, high - low) / width if width > 0 else 0.0


def _add_kernels(errors: dict[str, LayerError], model: Any) -> None:
  for layer in internals.layers_of(model):
    quantizer = isinstance(layer, leaves.Rewired) and (
        layerwise.quantizer_of(layer))
    if quantizer and layer.path in errors:
      kernel = tf.convert_to_tensor(layer.kernel_variable)
      error = errors[layer.path]
      error.bits = quantizer.num_bits
      error.kernel_sqnr_db = signals.ratio_db(
          kernel.numpy(), quantizer(kernel, training=False).numpy())
