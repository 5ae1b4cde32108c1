"""What a `quantization:` block asks for around the measuring of ranges."""

from collections.abc import Iterable

import tensorflow as tf
import tf_keras

from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling.equalization import bias_correction
from modelgarden_opt.modeling.equalization import cross_layer
from modelgarden_opt.modeling.equalization import rescaling
from modelgarden_opt.modeling.equalization import units


def prepare(
    model: tf_keras.Model, block: quantization_cfg.Quantization) -> None:
  """Rewrites a model before its ranges are measured; it computes the same.

  Args:
    model: A quantized model with its float weights; changed in place.
    block: `fold_batch_norm` and `cross_layer_equalization` are read.

  Raises:
    UsageError: If no kernel can be equalized.
  """
  if block.cross_layer_equalization:
    cross_layer.equalize(model)
  elif block.fold_batch_norm:
    rescaling.fold_batch_norm(units.find(model))


def correct(
    model: tf_keras.Model,
    block: quantization_cfg.Quantization,
    batches: Iterable[tf.Tensor],
) -> None:
  """Corrects biases after ranges were measured.

  Args:
    model: A quantized model with calibrated ranges; changed in place.
    block: `bias_correction` is read.
    batches: Images [b, height, width, channels]; not read if nothing is to be
      corrected.
  """
  if block.bias_correction:
    bias_correction.correct(model, batches)
