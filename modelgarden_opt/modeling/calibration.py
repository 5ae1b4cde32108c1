"""Measures activation ranges, and switches the quantizers of a model."""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
from typing import Any

from absl import logging
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import internals
from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.quantization import kernel_quantizer
from modelgarden_opt.compression.quantization import quantizers

Mode = quantizers.Mode


def quantizers_of(model: tf_keras.layers.Layer) -> list[tf.Module]:
  """Returns the quantizers of kernels and activations in a model."""
  # Not `model.submodules`, which takes seconds: it looks into every attribute
  # of every object, the Model Garden's configurations included.
  kinds = (quantizers.ActivationQuantizer, kernel_quantizer.KernelQuantizer)
  found = []
  for layer in internals.layers_of(model):
    for value in vars(layer).values():
      if isinstance(value, dict):
        value = value.values()
      elif not isinstance(value, transforms.TransformChain):
        value = [value]
      found += [item for item in value if isinstance(item, kinds)]
  return found


@contextlib.contextmanager
def quantizer_mode(model: tf_keras.Model, mode: Mode) -> Iterator[None]:
  """Switches all quantizers of a model; functions traced before are not.

  Args:
    model: A quantized model.
    mode: What its quantizers do inside the context.
  """
  found = quantizers_of(model)
  before = [q.mode for q in found]
  for quantizer in found:
    quantizer.mode = mode
  try:
    yield
  finally:
    for quantizer, previous in zip(found, before):
      quantizer.mode = previous


def is_calibrated(model: tf_keras.Model) -> bool:
  """Whether a model has no activation range that nobody measured."""
  ranges = [q for q in quantizers_of(model)
            if isinstance(q, quantizers.ActivationQuantizer) and q.moves]
  return not ranges or any(q.moved for q in ranges)


def calibrate(
    model: tf_keras.Model, dataset: Iterable[tuple[tf.Tensor, Any]]) -> None:
  """Sets every activation range by its calibration method.

  The model runs in float and in inference mode meanwhile, so the ranges are
  those of the float model that training starts from.

  Args:
    model: A quantized model.
    dataset: Batches of (images, labels), un-augmented.

  Raises:
    ValueError: If the data set is empty.
  """
  activation_quantizers = [
      q for q in quantizers_of(model)
      if isinstance(q, quantizers.ActivationQuantizer)]
  for quantizer in activation_quantizers:
    quantizer.start_calibration()
  num_batches = 0
  with quantizer_mode(model, Mode.CALIBRATE):
    for images, _ in dataset:
      model(images, training=False)
      for quantizer in activation_quantizers:
        quantizer.end_batch()
      num_batches += 1
  if not num_batches:
    raise ValueError('calibration data is empty')
  for quantizer in activation_quantizers:
    quantizer.end_calibration()
  logging.info('Calibrated %d activation ranges on %d batches.',
               len(activation_quantizers), num_batches)
