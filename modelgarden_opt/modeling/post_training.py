"""What is done to a quantized model before it is trained, or instead.

A run of quantization-aware training begins with it, a run without training
consists of it, and the export of a float run does it to a twin of the model.
"""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling.equalization import preparation
from modelgarden_opt.modeling.rounding import layerwise

# Returns un-augmented training batches of (images, labels), the same ones
# whenever it is called.
Batches = Callable[[], Iterable[tuple[tf.Tensor, Any]]]
# Reads of the block whether and how it is wanted.
Step = Callable[
    [tf_keras.Model, quantization_cfg.Quantization, Batches], None]


def search_kernel_ranges(
    model: tf_keras.Model,
    config: quantization_cfg.Quantization,
    batches: Batches,
) -> None:
  """Finds the ranges of kernels that are not their largest magnitudes."""
  del config, batches
  constraints.start(constraints.find(model, 'quantization'))


def calibrate(
    model: tf_keras.Model,
    config: quantization_cfg.Quantization,
    batches: Batches,
) -> None:
  """Measures the activation ranges, unless nobody wants them measured."""
  if config.calibration_steps:
    calibration.calibrate(model, batches())


def round_kernels(
    model: tf_keras.Model,
    config: quantization_cfg.Quantization,
    batches: Batches,
) -> None:
  """Rounds kernels to what changes the outputs of their layers least."""
  if config.rounds_adaptively:
    layerwise.round_kernels(model, (images for images, _ in batches()))


# In their order. What changes kernels comes before the ranges are measured,
# what corrects the errors of quantized kernels after.
STEPS: tuple[Step, ...] = (
    preparation.prepare, search_kernel_ranges, calibrate, round_kernels,
    preparation.correct)


def quantize(
    model: tf_keras.Model,
    config: quantization_cfg.Quantization,
    batches: Batches,
) -> None:
  """Takes every step for a model that has its float weights.

  Args:
    model: A quantized model.
    config: Its `quantization:` block.
    batches: Training data to measure on.
  """
  for step in STEPS:
    step(model, config, batches)
