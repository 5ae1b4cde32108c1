"""Runs an exported file and compares it with the Keras model it came from."""

from collections.abc import Sequence
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
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.evaluation import sparse_inference
from modelgarden_opt.export import closeness
from modelgarden_opt.export import convert
from modelgarden_opt.export import formats
from modelgarden_opt.export import invariants
from modelgarden_opt.export import sixteen_bits
from modelgarden_opt.modeling import calibration

# Images per call of the Keras model: their activations have to fit in memory.
_BATCH = 16
# How the problems of such files begin.
FLOAT_OPS = 'float ops left in an int8 file'
BIASES = 'biases do not fit into int32'


class VerificationError(errors.Failure):
  """A converted file does not do what its model does."""


def verify(
    path: str,
    model: tf_keras.Model,
    options: formats.Options,
    converted: convert.Converted,
    images: np.ndarray,
    float_layers: bool = False,
    float_model: tf_keras.Model | None = None,
    references: dict[Any, np.ndarray] | None = None,
) -> tuple[dict[str, Any], list[str]]:
  """Loads and runs a file and compares it with the Keras model.

  Args:
    path: The file.
    model: The model that it was converted from.
    options: What it was converted with.
    converted: What the conversion says of it.
    images: float32 array [n, h, w, c] that both get.
    float_layers: Whether a rule keeps some layers of the model in float.
    float_model: The model whose calibrated twin the other one is.
    references: What models computed of the same images for earlier files;
      changed in place.

  Returns:
    What was found: the file's census, kernels and sizes, of a sparse file
    whether it will be computed sparsely on Arm, and how far its outputs are
    from Keras' (`closeness.Measured`); with `float_model` from that one's, and
    from the twin's in `twin`. And one line for everything
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
    problems.insert(0, f'{FLOAT_OPS}: {found.float_ops}')
  outputs = file(images)
  step = file.output_scale if options.file_format == 'int8' else 0.0
  known = {} if references is None else references
  compared, more = _compare(
      outputs, step, options, trained,
      _reference(model, options, trained, images, known),
      'Keras' if float_model is None else 'its calibrated twin')
  if float_model is not None:
    of_twin = compared
    compared, beyond = _compare(
        outputs, step, options, False,
        _reference(float_model, options, False, images, known), 'Keras')
    compared['twin'], more = of_twin, [*beyond, *more]
  problems += of_biases(kernels)
  if not np.all(np.isfinite(outputs)):
    more = ['the file computes values that are not finite']
  assessed = {}
  if options.sparse:
    read = model_file.read(path)
    assessed['sparse_inference'] = sparse_inference.assess(read)
    problems += sparse_inference.problems(read)
  return {
      **dataclasses.asdict(found),
      **assessed,
      'gzip_bytes': census.gzip_bytes(path),
      'sparsity': inspection.sparsity(kernels),
      'kernels': [kernel.record() for kernel in kernels],
      **compared,
      'num_verified': len(images),
  }, [*problems, *more]


def _compare(
    outputs: np.ndarray,
    step: float,
    options: formats.Options,
    trained: bool,
    expected: np.ndarray,
    name: str,
) -> tuple[dict[str, Any], list[str]]:
  """Compares what a file computed with what a model computes.

  Args:
    outputs: Outputs of the file.
    step: Quantization step of an int8 output, 0 for others.
    options: What the file was converted with.
    trained: Whether the file has the ranges of the model's quantizers.
    expected: Outputs of the model for the same images.
    name: What messages call the model.

  Returns:
    How far they are apart with the limits, and one line for everything that is
    beyond them.
  """
  limits = closeness.TOLERANCES[options.file_format, trained]
  measured = closeness.measure(outputs, expected, step, limits)
  return ({**measured.record(), 'limits': dataclasses.asdict(limits)},
          measured.problems(limits, name))


def of_biases(kernels: Sequence[inspection.Kernel]) -> list[str]:
  """Returns what is wrong with the biases of a file."""
  names = [k.name for k in kernels if k.num_saturated_biases]
  return [f'{BIASES}: those of {len(names)} kernels, first {names[0]}'] if (
      names) else []


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
    known: dict[Any, np.ndarray],
) -> np.ndarray:
  """Returns what the exported model computes in Keras, once for all files."""
  sixteen = trained and options.file_format == 'int16x8'
  key = (model, trained, sixteen, options.hard_swish, options.output.compute)
  if key not in known:
    known[key] = _computed(model, options, trained, sixteen, images)
  return known[key]


def _computed(
    model: tf_keras.Model,
    options: formats.Options,
    trained: bool,
    sixteen: bool,
    images: np.ndarray,
) -> np.ndarray:
  mode = (calibration.Mode.QUANTIZE if trained
          else calibration.Mode.PASS_THROUGH)
  with contextlib.ExitStack() as stack:
    stack.enter_context(calibration.quantizer_mode(model, mode))
    if sixteen:
      stack.enter_context(sixteen_bits.activations(model))
    activations.fuse_hard_swish(model, options.hard_swish == 'fused')
    stack.callback(activations.fuse_hard_swish, model, False)
    return np.concatenate([
        options.output.compute(
            model(tf.constant(batch), training=False)).numpy()
        for batch in np.array_split(images, -(-len(images) // _BATCH))])
