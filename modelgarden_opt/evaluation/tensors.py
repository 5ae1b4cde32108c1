"""Input and output tensors of a loaded `.tflite` file, and values for them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelgarden_opt import errors

Detail = Mapping[str, Any]
# Random floats are like normalized pixels.
_RANGE = 2.0
# Larger integers without a scale are indices, of which 0 always exists.
_PIXELS = (np.uint8, np.int8)


def described(detail: Detail) -> str:
  """Returns a tensor's name, type and shape: `image: float32 [1, 32, 32, 3]`.

  Args:
    detail: Its entry of `get_input_details()` or `get_output_details()`.
  """
  shape = ', '.join('?' if size < 0 else str(size) for size in (
      detail['shape_signature'] if len(detail['shape_signature'])
      else detail['shape']))
  kind = np.dtype(detail['dtype']).name
  return f'{detail["name"]}: {kind} [{shape}]'


def quantize(values: np.ndarray, detail: Detail) -> np.ndarray:
  """Returns floats as the values that an input tensor holds for them.

  Args:
    values: float array.
    detail: The tensor's entry of `get_input_details()`.

  Raises:
    UsageError: If it holds integers without a scale.
  """
  dtype = detail['dtype']
  if np.issubdtype(dtype, np.floating):
    return np.asarray(values, dtype)
  scale, zero_point = detail['quantization']
  if not scale:
    raise errors.UsageError(
        f'tflite: the input {described(detail)} has no scale, so the file does '
        'not say which integers stand for which pixels')
  info = np.iinfo(dtype)
  return np.clip(
      np.round(values / scale) + zero_point, info.min, info.max).astype(dtype)


def dequantize(values: np.ndarray, detail: Detail) -> np.ndarray:
  """Returns a copy of what an output tensor holds, as floats if it has a scale.
  """
  scale, zero_point = detail['quantization']
  if np.issubdtype(detail['dtype'], np.floating):
    return values.astype(np.float32)  # A copy.
  if not scale:
    return values.copy()  # Labels: integers that have no scale.
  return (values.astype(np.float32) - zero_point) * np.float32(scale)


def random(detail: Detail, rng: np.random.Generator) -> np.ndarray:
  """Returns values that any file computes with: images, or zeros for indices.

  Args:
    detail: The tensor's entry of `get_input_details()`.
    rng: Source of the values.

  Raises:
    UsageError: If it holds no numbers.
  """
  dtype, shape = np.dtype(detail['dtype']), tuple(detail['shape'])
  if dtype.kind not in 'fiubc':
    raise errors.UsageError(
        f'tflite: the input {described(detail)} holds no numbers')
  if dtype.kind in 'fc' or detail['quantization'][0]:
    values = rng.uniform(-_RANGE, _RANGE, shape)
    return values.astype(dtype) if dtype.kind in 'fc' else quantize(
        values, detail)
  if dtype.type in _PIXELS:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
  return np.zeros(shape, dtype)
