"""Exports a run as a `.tflite` file and verifies the file before reporting."""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any
import uuid

import numpy as np
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.data import representative
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.evaluation import tflite
from modelgarden_opt.export import convert
from modelgarden_opt.export import invariants
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory
from modelgarden_opt.tasks import run_directory

_NUM_VERIFIED = 64
# Images that Keras gets at a time: their activations have to fit in memory.
_BATCH = 16


class VerificationError(RuntimeError):
  """A converted file does not do what its model does."""


def export(
    model_dir: str,
    file_format: str,
    output: str,
    io_dtype: str = 'float32',
    checkpoint: str = 'best',
    calibration_images: int = 256,
    batch_size: int | None = 1,
    kind: str | None = None,
    sparse: bool = False,
) -> Mapping[str, Any]:
  """Writes a verified file; nothing is left behind if verification fails.

  Args:
    model_dir: The run directory; nothing else is read.
    file_format: Key of `convert.FORMATS`.
    output: Path of the file.
    io_dtype: Key of `convert.IO_DTYPES`.
    checkpoint: `best`, `latest` or a file prefix.
    calibration_images: Training images that calibrate a float model for an
      integer format.
    batch_size: Fixed batch size of the file; None leaves it open.
    kind: Output of a segmentation file, see `configs.export`; None for the
      one that the run's configuration names.
    sparse: Whether kernels with many zeros are stored sparsely.

  Returns:
    What was found in the file, see `verify`.

  Raises:
    UsageError: If the run, the checkpoint or the format cannot be used.
    VerificationError: If the file does not compute what the model computes.
  """
  if file_format not in convert.FORMATS:
    raise errors.UsageError(
        f'format: {file_format!r} is not an export format'
        f'{errors.nearest(file_format, convert.FORMATS)}')
  run = run_directory.load(model_dir, checkpoint)
  finish = _finish(run, kind)
  content = convert.convert(
      run.model, file_format, io_dtype,
      lambda: representative.calibration_images(run.task, calibration_images),
      batch_size, run.params.task.export.hard_swish, finish, sparse)
  os.makedirs(os.path.dirname(output) or '.', exist_ok=True)
  temporary = f'{output}.tmp-{uuid.uuid4().hex}'
  try:
    with open(temporary, 'wb') as f:
      f.write(content)
    found = verify(temporary, run, file_format, finish)
    os.replace(temporary, output)
  finally:
    if os.path.exists(temporary):
      os.remove(temporary)
  return {'model': output, 'format': file_format, 'io_dtype': io_dtype,
          'checkpoint': run.checkpoint, **found}


def verify(
    path: str,
    run: run_directory.Run,
    file_format: str,
    finish: convert.Finish = factory.logits,
) -> dict[str, Any]:
  """Loads and runs a file and compares it with the Keras model.

  Args:
    path: The file.
    run: The run that it was exported from.
    file_format: What the file is meant to be.
    finish: What it was converted with.

  Returns:
    The file's census, the largest difference of an output from the Keras
    model's (in output units and in quantization steps), and the share of
    images on which both predict the same class.

  Raises:
    VerificationError: If an integer file has float ops left, though no rule
      left a layer in float, an output is not finite, or the file has not the
      zeros and clusters of its model.
  """
  found = tflite.census(path)
  if (file_format == 'int8' and found.float_ops and
      not _has_float_layers(run)):
    raise VerificationError(
        f'float ops left in an int8 file: {found.float_ops}')
  model = tflite.Model(path)
  images = np.concatenate(list(
      representative.calibration_images(run.task, _NUM_VERIFIED)))
  actual = model(images)
  expected = np.concatenate([
      _keras_outputs(run, batch, file_format, finish)
      for batch in np.array_split(images, -(-len(images) // _BATCH))])
  if not np.all(np.isfinite(actual)):
    raise VerificationError('the file computes values that are not finite')
  kernels = inspection.kernels(path)
  quantized = file_format == 'int8' and bool(
      calibration.quantizers_of(run.model))
  if invariants.claimed(run.model, file_format, quantized):
    broken = invariants.problems(run.model, kernels, quantized)
    if broken:
      raise VerificationError(
          'the file lost zeros or clusters: ' + '; '.join(broken))
  return {
      **dataclasses.asdict(found),
      'gzip_bytes': tflite.gzip_bytes(path),
      'sparsity': inspection.sparsity(kernels),
      'kernels': [kernel.record() for kernel in kernels],
      **_agreement(actual, expected, model.output_scale),
      'num_verified': len(actual),
  }


def _agreement(
    actual: np.ndarray, expected: np.ndarray, step: float) -> dict[str, Any]:
  """Compares the outputs of a file with those of Keras."""
  if np.issubdtype(actual.dtype, np.integer):
    return {'agreement': float(np.mean(actual == expected)),
            'max_difference': None, 'max_difference_steps': None}
  difference = float(np.max(np.abs(actual - expected)))
  return {
      'agreement': float(np.mean(
          np.argmax(actual, -1) == np.argmax(expected, -1))),
      'max_difference': difference,
      'max_difference_steps': difference / step if step else None,
  }


def _finish(run: run_directory.Run, kind: str | None) -> convert.Finish:
  """Returns what takes the outputs of the run's model to those of a file.

  Raises:
    UsageError: If a file of the run's task cannot have such an output.
  """
  configured = getattr(run.params.task.export, 'output', None)
  if kind and not configured:
    raise errors.UsageError(
        f'segmentation_output: {kind!r} is for segmentation; '
        f'{run.model_dir!r} holds a run of another task')
  kind = kind or configured or 'logits'
  size = run.model.backbone.input_shape[1:3]

  def finish(outputs):
    logits = factory.logits(outputs)
    if kind == 'logits':
      return logits
    logits = tf.image.resize(logits, size)
    if kind == 'resized_logits':
      return logits
    return tf.argmax(logits, axis=-1, output_type=tf.int32)

  return finish


def _keras_outputs(
    run: run_directory.Run,
    images: np.ndarray,
    file_format: str,
    finish: convert.Finish,
) -> np.ndarray:
  """Returns what the exported model computes in Keras."""
  mode = (calibration.Mode.QUANTIZE if file_format == 'int8'
          else calibration.Mode.PASS_THROUGH)
  with calibration.quantizer_mode(run.model, mode):
    outputs = run.model(tf.constant(images), training=False)
    return finish(outputs).numpy()


def _has_float_layers(run: run_directory.Run) -> bool:
  """Whether a rule keeps some layers of a quantized model in float."""
  quantization = getattr(run.params.task, 'quantization', None)
  return quantization is not None and any(
      rule.enabled is False for rule in quantization.rules)
