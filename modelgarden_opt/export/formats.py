"""What an exported file can be, as data, and what goes together."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression.quantization import activations
from modelgarden_opt.compression.quantization import kernel_quantizer
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory

Finish = Callable[[Any], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Format:
  """What an exported file holds.

  Attributes:
    description: What it is, in a line.
    optimize: Whether the converter optimizes at all.
    weight_type: Type that weights are stored in, None for the converter's.
    ops: Op set that the converter may use, None for the float one.
    calibrated: Whether activations are integers, so that a float model needs
      representative images and a QAT model keeps its trained ranges.
    sparse: Whether kernels can be stored sparsely. The converter does it for
      every format, but of the others TFLite cannot load the result.
  """
  description: str
  optimize: bool = True
  weight_type: tf.DType | None = None
  ops: tf.lite.OpsSet | None = None
  calibrated: bool = False
  sparse: bool = False


FORMATS = {
    'float32': Format('float weights and arithmetic', optimize=False,
                      sparse=True),
    'float16': Format('float16 weights, float32 arithmetic',
                      weight_type=tf.float16, sparse=True),
    'dynamic_int8': Format('int8 weights, float activations'),
    'int8': Format('integers only', ops=tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
                   calibrated=True),
    'int16x8': Format(
        'int16 activations, int8 weights', calibrated=True,
        ops=tf.lite.OpsSet
        .EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8),
}
# Where a file will run, which decides how ops are written that it can write in
# several ways.
RUNTIMES = {
    'xnnpack': 'TFLite with the XNNPACK delegate (the default of CPUs)',
    'reference': 'any TFLite interpreter, such as TFLite Micro',
}
# Bits of a kernel that runtimes can read.
KERNEL_BITS = (4, 8)
IO_DTYPES = {'float32': tf.float32, 'int8': tf.int8, 'uint8': tf.uint8}


@dataclasses.dataclass(frozen=True)
class Output:
  """The one output of a file.

  Attributes:
    name: Its name in the file's signature.
    compute: Takes what the model returns to the output.
    labels: Names of the classes, if they are known.
  """
  name: str = 'logits'
  compute: Finish = factory.logits
  labels: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """How a model is written as a file.

  Attributes:
    file_format: Key of `FORMATS`.
    io_dtype: Type of the file's input and output, `float32`, `int8` or
      `uint8`; integers only with format `int8`.
    batch_size: Fixed batch size of the file; None leaves it open.
    hard_swish: `decomposed` or `fused`, see `configs.export`.
    sparse: Whether kernels with many zeros are stored sparsely.
    runtime: Key of `RUNTIMES`.
    output: The file's output.
  """
  file_format: str
  io_dtype: str = 'float32'
  batch_size: int | None = 1
  hard_swish: str = 'decomposed'
  sparse: bool = False
  runtime: str = 'xnnpack'
  output: Output = Output()


def needs_images(model: tf_keras.Model, file_format: str) -> bool:
  """Whether a model has to be calibrated for a format."""
  return FORMATS[file_format].calibrated and not (
      file_format == 'int8' and calibration.quantizers_of(model))


def check(model: tf_keras.Model, options: Options) -> None:
  """Raises `UsageError` for what cannot be converted."""
  file_format, io_dtype = options.file_format, options.io_dtype
  if io_dtype != 'float32' and file_format != 'int8':
    raise errors.UsageError(
        f'io_dtype: {io_dtype!r} needs --format=int8, received {file_format!r}')
  if options.sparse and not FORMATS[file_format].sparse:
    raise errors.UsageError(
        f'sparse: TFLite cannot load {file_format} files with sparsely stored '
        'kernels; it can with float32 and float16. Without --sparse the zeros '
        'are kept, and compression (zip) finds them')
  if options.batch_size is None and _is_dilated(model):
    raise errors.UsageError(
        'batch_size: the model has dilated convolutions, which TFLite can '
        'hold with a fixed batch only; use --batch_size=1 (or more)')
  if file_format == 'int8':
    found = _unreadable(model)
    if found:
      raise errors.UsageError(found)


def _is_dilated(model: tf_keras.Model) -> bool:
  """Whether a convolution has holes: TensorFlow folds them into the batch."""
  rates = (getattr(layer, 'dilation_rate', 1)
           for layer in internals.layers_of(model))
  return any(np.max(rate) > 1 for rate in rates)


def has_low_bits(model: tf_keras.Model) -> bool:
  """Whether a kernel of a model is quantized to 4 bits."""
  return any(isinstance(q, kernel_quantizer.KernelQuantizer) and q.num_bits == 4
             for q in calibration.quantizers_of(model))


def _unreadable(model: tf_keras.Model) -> str:
  """Says which layers have numbers of bits that no runtime reads, if any."""
  found = [
      f'{layer.path} ({quantizer.num_bits} bits)'
      for layer in model.submodules
      if isinstance(layer, (leaves.Rewired, activations.ActivationQuantized))
      for quantizer in calibration.quantizers_of(layer)
      if quantizer.num_bits not in (
          KERNEL_BITS if isinstance(quantizer, kernel_quantizer.KernelQuantizer)
          else (8,))]
  if not found:
    return ''
  more = f' and {len(found) - 5} more' if len(found) > 5 else ''
  return (
      'format: runtimes read kernels of 4 or 8 bits and activations of 8; '
      'other numbers of bits are for training and evaluation in Keras; other '
      f'numbers have: {", ".join(found[:5])}{more}')
