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
from modelgarden_opt.evaluation import tflite
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import calibration
from modelgarden_opt.tasks import run_directory

_NUM_VERIFIED = 64


class VerificationError(RuntimeError):
  """A converted file does not do what its model does."""


def export(
    model_dir: str,
    file_format: str,
    output: str,
    io_dtype: str = 'float32',
    checkpoint: str = 'best',
    calibration_images: int = 256,
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
  content = convert.convert(
      run.model, file_format, io_dtype,
      lambda: representative.calibration_images(run.task, calibration_images),
      hard_swish=run.params.task.export.hard_swish)
  os.makedirs(os.path.dirname(output) or '.', exist_ok=True)
  temporary = f'{output}.tmp-{uuid.uuid4().hex}'
  try:
    with open(temporary, 'wb') as f:
      f.write(content)
    found = verify(temporary, run, file_format)
    os.replace(temporary, output)
  finally:
    if os.path.exists(temporary):
      os.remove(temporary)
  return {'model': output, 'format': file_format, 'io_dtype': io_dtype,
          'checkpoint': run.checkpoint, **found}


def verify(
    path: str, run: run_directory.Run, file_format: str
) -> dict[str, Any]:
  """Loads and runs a file and compares it with the Keras model.

  Args:
    path: The file.
    run: The run that it was exported from.
    file_format: What the file is meant to be.

  Returns:
    The file's census, the largest difference of an output from the Keras
    model's (in output units and in quantization steps), and the share of
    images on which both predict the same class.

  Raises:
    VerificationError: If an integer file has float ops left, though no rule
      left a layer in float, or an output is not finite.
  """
  found = tflite.census(path)
  if (file_format == 'int8' and found.float_ops and
      not _has_float_layers(run)):
    raise VerificationError(
        f'float ops left in an int8 file: {found.float_ops}')
  images = np.concatenate(list(
      representative.calibration_images(run.task, _NUM_VERIFIED)))
  model = tflite.Model(path)
  actual = model(images)
  expected = _keras_outputs(run, images, file_format)
  if not np.all(np.isfinite(actual)):
    raise VerificationError('the file computes values that are not finite')
  difference = float(np.max(np.abs(actual - expected)))
  step = model.output_scale
  return {
      **dataclasses.asdict(found),
      'max_difference': difference,
      'max_difference_steps': difference / step if step else None,
      'agreement': float(np.mean(
          np.argmax(actual, -1) == np.argmax(expected, -1))),
      'num_verified': len(images),
  }


def _keras_outputs(
    run: run_directory.Run, images: np.ndarray, file_format: str
) -> np.ndarray:
  """Returns what the exported model computes in Keras."""
  mode = (calibration.Mode.QUANTIZE if file_format == 'int8'
          else calibration.Mode.PASS_THROUGH)
  with calibration.quantizer_mode(run.model, mode):
    return run.model(tf.constant(images), training=False).numpy()


def _has_float_layers(run: run_directory.Run) -> bool:
  """Whether a rule keeps some layers of a quantized model in float."""
  quantization = getattr(run.params.task, 'quantization', None)
  return quantization is not None and any(
      rule.enabled is False for rule in quantization.rules)
