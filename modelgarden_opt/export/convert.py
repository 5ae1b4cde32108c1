"""Conversion of a Keras model to TFLite, by way of a frozen graph.

One concrete function is traced and its variables are turned into constants
before the converter sees it, see `frozen_graph`. The ops are the same as with
`TFLiteConverter.from_keras_model`, the time is a fraction (docs/benchmarks.md).
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import os
import sys
import tempfile
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression.quantization import activations
from modelgarden_opt.export import frozen_graph
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory

Representative = Callable[[], Iterator[np.ndarray]]
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
IO_DTYPES = {'float32': tf.float32, 'int8': tf.int8, 'uint8': tf.uint8}


def convert(
    model: tf_keras.Model,
    file_format: str,
    io_dtype: str = 'float32',
    representative: Representative | None = None,
    batch_size: int | None = 1,
    hard_swish: str = 'decomposed',
    finish: Finish = factory.logits,
    sparse: bool = False,
) -> bytes:
  """Returns a model as the content of a `.tflite` file.

  Args:
    model: A float or quantization-aware model with one image input.
    file_format: Key of `FORMATS`. A quantization-aware model keeps its trained
      ranges in `int8`; every other format takes its weights as float ones.
    io_dtype: Type of the file's input and output, `float32`, `int8` or
      `uint8`; integers only with format `int8`.
    representative: Yields float32 images [1, h, w, c]; needed to calibrate a
      float model for an integer format.
    batch_size: Fixed batch size of the file; None leaves it open.
    hard_swish: `decomposed` or `fused`, see `configs.export`.
    finish: Takes what the model returns to the file's one output.
    sparse: Whether kernels with many zeros are stored sparsely.

  Raises:
    UsageError: If the options do not go together, or the model has what TFLite
      cannot hold under them.
  """
  if io_dtype != 'float32' and file_format != 'int8':
    raise errors.UsageError(
        f'io_dtype: {io_dtype!r} needs --format=int8, received {file_format!r}')
  spec = FORMATS[file_format]
  if sparse and not spec.sparse:
    raise errors.UsageError(
        f'sparse: TFLite cannot load {file_format} files with sparsely stored '
        'kernels; it can with float32 and float16. Without --sparse the zeros '
        'are kept, and compression (zip) finds them')
  if batch_size is None and _is_dilated(model):
    raise errors.UsageError(
        'batch_size: the model has dilated convolutions, which TFLite can '
        'hold with a fixed batch only; use --batch_size=1 (or more)')
  quantizers = calibration.quantizers_of(model)
  trained = bool(quantizers) and file_format == 'int8'
  if trained and any(quantizer.num_bits != 8 for quantizer in quantizers):
    raise errors.UsageError(_not_8_bits(model))
  with _quiet():
    activations.fuse_hard_swish(model, hard_swish == 'fused')
    try:
      traced = _trace(model, finish, batch_size, trained)
    finally:
      activations.fuse_hard_swish(model, False)
    converter = frozen_graph.Converter(traced)
  converter.optimizations = [
      *([tf.lite.Optimize.DEFAULT] if spec.optimize else []),
      *([tf.lite.Optimize.EXPERIMENTAL_SPARSITY] if sparse else [])]
  if spec.weight_type:
    converter.target_spec.supported_types = [spec.weight_type]
  if spec.calibrated and not trained:
    if representative is None:
      raise ValueError(f'{file_format} of a float model needs images')
    converter.representative_dataset = lambda: (
        [image] for image in representative())
    converter.target_spec.supported_ops = [spec.ops]
  converter.inference_input_type = IO_DTYPES[io_dtype]
  converter.inference_output_type = IO_DTYPES[io_dtype]
  with _quiet():
    return converter.convert()


def _is_dilated(model: tf_keras.Model) -> bool:
  """Whether a convolution has holes: TensorFlow folds them into the batch."""
  rates = (getattr(layer, 'dilation_rate', 1)
           for layer in model._flatten_layers())  # pylint: disable=protected-access
  return any(np.max(rate) > 1 for rate in rates)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Holds back what the converter's native code prints, unless it fails."""
  sys.stderr.flush()
  terminal = os.dup(2)
  with tempfile.TemporaryFile() as held:
    os.dup2(held.fileno(), 2)
    try:
      yield
    except BaseException:
      held.seek(0)
      os.write(terminal, held.read())
      raise
    finally:
      os.dup2(terminal, 2)
      os.close(terminal)


def _not_8_bits(model: tf_keras.Model) -> str:
  """Says which layers an int8 file cannot hold, by their paths."""
  found = [
      f'{layer.path} ({quantizer.num_bits} bits)'
      for layer in model.submodules
      if isinstance(layer, (leaves.Rewired, activations.ActivationQuantized))
      for quantizer in calibration.quantizers_of(layer)
      if quantizer.num_bits != 8]
  more = f' and {len(found) - 5} more' if len(found) > 5 else ''
  return (
      'format: an int8 file holds 8-bit ranges only, other numbers of bits '
      'are for training and evaluation in Keras; not 8 bits have: '
      f'{", ".join(found[:5])}{more}')


def _trace(
    model: tf_keras.Model,
    finish: Finish,
    batch_size: int | None,
    quantized: bool,
):
  """Returns the model's inference as a concrete function."""
  # A segmentation model has no input of its own.
  inputs = model.inputs or model.backbone.inputs
  shape = [batch_size, *inputs[0].shape[1:]]
  mode = calibration.Mode.EXPORT if quantized else (
      calibration.Mode.PASS_THROUGH)
  with calibration.quantizer_mode(model, mode):
    # Without AutoGraph: the layers' own code has no tensor to branch on.
    function = tf.function(
        lambda image: finish(model(image, training=False)), autograph=False)
    return function.get_concrete_function(
        tf.TensorSpec(shape, tf.float32, name='image'))
