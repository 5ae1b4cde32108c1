"""Runs an exported file and compares it with the Keras model it came from."""

import contextlib
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression.quantization import activations
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import closeness
from modelgarden_opt.export import convert
from modelgarden_opt.export import formats
from modelgarden_opt.export import invariants
from modelgarden_opt.export import sixteen_bits
from modelgarden_opt.modeling import calibration

# Images per call of the Keras model: their activations have to fit in memory.
_BATCH = 16


class VerificationError(errors.Failure):
  """A converted file does not do what its model does."""


def verify(
    path: str,
    model: tf_keras.Model,
    options: formats.Options,
    converted: convert.Converted,
    images: np.ndarray,
    float_layers: bool = False,
) -> tuple[dict[str, Any], list[str]]:
  """Loads and runs a file and compares it with the Keras model.

  Args:
    path: The file.
    model: The model that it was converted from.
    options: What it was converted with.
    converted: What the conversion says of it.
    images: float32 array [n, h, w, c] that both get.
    float_layers: Whether a rule keeps some layers of the model in float.

  Returns:
    What was found: the file's census, kernels and sizes, and how far its
    outputs are from Keras' (`closeness.Measured`). And one line for everything
    that is wrong: float ops left in an integer file though no rule left a
    layer in float, outputs that are not finite or too far off, and zeros or
    clusters that the file lost.

  Raises:
    VerificationError: If the file cannot be loaded.
  """
  try:
    found, file = census.take(path), litert_model.Model(path)
  except errors.UsageError as e:
    raise VerificationError(f'the file cannot be used: {e}') from e
  trained = converted.ranges == 'trained'
  kernels = inspection.kernels(path)
  problems = _of_form(model, options, converted, kernels)
  if (options.file_format == 'int8' and found.float_ops and
      not float_layers):
    problems.insert(0, f'float ops left in an int8 file: {found.float_ops}')
  limits = closeness.TOLERANCES[options.file_format, trained]
  actual, expected = file(images), _reference(model, options, trained, images)
  measured = closeness.measure(
      actual, expected,
      file.output_scale if options.file_format == 'int8' else 0.0, limits)
  if not np.all(np.isfinite(actual)):
    problems.append('the file computes values that are not finite')
  else:
    problems += measured.problems(limits)
  return {
      **dataclasses.asdict(found),
      'gzip_bytes': census.gzip_bytes(path),
      'sparsity': inspection.sparsity(kernels),
      'kernels': [kernel.record() for kernel in kernels],
      **measured.record(),
      'limits': dataclasses.asdict(limits),
      'num_verified': len(images),
  }, problems


def _of_form(model, options, converted, kernels) -> list[str]:
  """Returns what is wrong with the kernels of a file."""
  trained = converted.ranges == 'trained'
  if not invariants.claimed(model, options.file_format, trained):
    return []
  broken = invariants.problems(model, kernels, trained, converted.variables)
  return ['the file lost zeros or clusters: ' + '; '.join(broken)] if (
      broken) else []


def _reference(
    model: tf_keras.Model,
    options: formats.Options,
    trained: bool,
    images: np.ndarray,
) -> np.ndarray:
  """Returns what the exported model computes in Keras."""
  mode = (calibration.Mode.QUANTIZE if trained
          else calibration.Mode.PASS_THROUGH)
  with contextlib.ExitStack() as stack:
    stack.enter_context(calibration.quantizer_mode(model, mode))
    if trained and options.file_format == 'int16x8':
      stack.enter_context(sixteen_bits.activations(model))
    activations.fuse_hard_swish(model, options.hard_swish == 'fused')
    stack.callback(activations.fuse_hard_swish, model, False)
    return np.concatenate([
        options.output.compute(
            model(tf.constant(batch), training=False)).numpy()
        for batch in np.array_split(images, -(-len(images) // _BATCH))])
