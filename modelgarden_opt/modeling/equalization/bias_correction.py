"""Bias correction: quantization shall not move the mean of a channel.

Rounding a kernel changes what its layer computes, also in the mean over many
images, and the next layers read that. The mean error of every channel is
measured and subtracted from its bias.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and
Bias Correction", arXiv:1906.04721, section 4.2 and appendix D (the form that
measures the error on images).
"""

from collections.abc import Iterable

from absl import logging
import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import observing
from modelgarden_opt.modeling.equalization import units as units_lib


def correct(model: tf_keras.Model, batches: Iterable[tf.Tensor]) -> list[str]:
  """Subtracts the mean error of quantization from biases, in forward order.

  A batch is computed in float, then quantized. There every layer is corrected
  by the batch's own error before the next one reads it, so that an error is
  corrected where it arises and not again after it. The mean over the batches
  is subtracted from the bias: that of the batch normalization (`beta`), or of
  the layer where there is no normalization.

  Args:
    model: A quantized model with calibrated ranges; biases are changed.
    batches: Images [b, height, width, channels]. Many to a batch, because
      the correction of the layers before depends on the batch's mean.

  Returns:
    Paths of the layers that have no bias to correct.

  Raises:
    ValueError: If there is no batch.
  """
  biases, without = {}, []
  for unit in units_lib.find(model):
    point, variable = _bias_of(unit)
    if variable is None:
      without.append(unit.op.path)
    else:
      biases[point] = variable
  errors = {point: [] for point in biases}
  for images in batches:
    for point, error in _errors(model, list(biases), images).items():
      errors[point].append(error)
  if not any(errors.values()):
    raise ValueError('there is no data to correct biases with')
  for point, found in errors.items():
    biases[point].assign_sub(np.mean(found, axis=0))
  logging.info('Corrected %d biases.%s', len(biases), (
      f' Without a bias: {", ".join(without)}.' if without else ''))
  return without


def _bias_of(unit: units_lib.Unit):
  """Returns the layer whose output is compared, and its bias, if any."""
  if unit.norm is not None:
    return unit.norm, unit.norm.beta if unit.norm.center else None
  return unit.op, unit.op.bias if unit.op.use_bias else None


def _errors(model, points, images: tf.Tensor) -> dict:
  """Returns the mean error of every channel of a batch, by layer."""
  means, errors = {}, {}

  def measure(layer, call, inputs, *args):
    outputs = call(inputs, *args)
    means[layer] = _mean(outputs)
    return outputs

  def corrected(layer, call, inputs, *args):
    outputs = call(inputs, *args)
    errors[layer] = _mean(outputs) - means[layer]
    return outputs - errors[layer]

  for mode, around in ((calibration.Mode.PASS_THROUGH, measure),
                       (calibration.Mode.QUANTIZE, corrected)):
    with calibration.quantizer_mode(model, mode):
      with observing.calls(points, around):
        model(images, training=False)
  return {layer: error.numpy() for layer, error in errors.items()}


def _mean(outputs: tf.Tensor) -> tf.Tensor:
  return tf.reduce_mean(outputs, axis=list(range(outputs.shape.rank - 1)))
