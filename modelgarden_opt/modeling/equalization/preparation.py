"""What a `quantization:` block asks for around the measuring of ranges."""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling.equalization import bias_correction
from modelgarden_opt.modeling.equalization import cross_layer
from modelgarden_opt.modeling.equalization import rescaling
from modelgarden_opt.modeling.equalization import units

# Returns un-augmented training batches of (images, labels).
Batches = Callable[[], Iterable[tuple[tf.Tensor, Any]]]


def prepare(
    model: tf_keras.Model,
    config: quantization_cfg.Quantization,
    batches: Batches | None = None,
) -> None:
  """Rewrites a model before its ranges are measured; it computes the same.

  Ranges of kernels that do not follow the kernel have to be found after it.

  Args:
    model: A quantized model with its float weights; changed in place.
    config: Its `quantization:` block, of which `fold_batch_norm` and
      `cross_layer_equalization` are read.
    batches: Not needed.

  Raises:
    UsageError: If no kernel can be equalized.
  """
  del batches
  if config.cross_layer_equalization:
    cross_layer.equalize(model)
  elif config.fold_batch_norm:
    rescaling.fold_batch_norm(units.find(model))


def correct(
    model: tf_keras.Model,
    config: quantization_cfg.Quantization,
    batches: Batches,
) -> None:
  """Corrects biases after ranges were measured.

  Args:
    model: A quantized model with calibrated ranges; changed in place.
    config: Its `quantization:` block, of which `bias_correction` is read.
    batches: Training data to measure on.
  """
  if config.bias_correction:
    bias_correction.correct(model, (images for images, _ in batches()))
