"""Conversion of a Keras model to TFLite, by way of a frozen graph.

One concrete function is traced and its variables are turned into constants
before the converter sees it, see `frozen_graph`. The ops are the same as with
`TFLiteConverter.from_keras_model`, the time is a fraction (docs/benchmarks.md).
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools
import re
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import convert as lite_convert
import tf_keras

import modelgarden_opt
from modelgarden_opt import errors
from modelgarden_opt.compression.quantization import activations
from modelgarden_opt.evaluation import litert_loading
from modelgarden_opt.evaluation import native_output
from modelgarden_opt.export import formats
from modelgarden_opt.export import frozen_graph
from modelgarden_opt.export import sixteen_bits
from modelgarden_opt.export.lowering import flatbuffer
from modelgarden_opt.export.lowering import identity_product
from modelgarden_opt.export.lowering import int64_bias
from modelgarden_opt.export.lowering import joined_constants
from modelgarden_opt.export.lowering import metadata
from modelgarden_opt.export.lowering import pointwise
from modelgarden_opt.export.lowering import pooled_head
from modelgarden_opt.export.lowering import signature
from modelgarden_opt.export.lowering import single_scale
from modelgarden_opt.export.lowering import symmetric_padding
from modelgarden_opt.modeling import calibration

Representative = Callable[[], Iterator[np.ndarray]]

# What sparse inference asks of a file beside zeros, see docs/targets.md.
_FOR_SPARSE_INFERENCE = (
    symmetric_padding.split, joined_constants.expand, pooled_head.lower)
_MISSING_KERNEL = re.compile("16x8-bit not yet supported for op: '(\\w+)'")


@dataclasses.dataclass(frozen=True)
class Converted:
  """A file and where its activation ranges come from.

  Attributes:
    content: The `.tflite` file.
    variables: The variables of the model that its output depends on.
    ranges: `trained`, `calibrated`, or None for activations in float.
    reason: Why the trained ranges of a quantized model were not used, if so.
  """
  content: bytes
  variables: Sequence[tf.Variable]
  ranges: str | None
  reason: str = ''


def convert(
    model: tf_keras.Model,
    file_format: str,
    representative: Representative | None = None,
    **options: Any,
) -> bytes:
  """Returns a model as the content of a `.tflite` file, see `convert_as`.

  Args:
    model: A float or quantization-aware model with one image input.
    file_format: Key of `formats.FORMATS`.
    representative: See `convert_as`.
    **options: The other attributes of `formats.Options`.
  """
  return convert_as(
      model, formats.Options(file_format=file_format, **options),
      representative).content


def convert_as(
    model: tf_keras.Model,
    options: formats.Options,
    representative: Representative | None = None,
    traces: 'Traces | None' = None,
) -> Converted:
  """Converts a model.

  A quantization-aware model keeps its trained ranges in `int8`, and in
  `int16x8` where the converter and TFLite's kernels can: they refuse
  hard-swish, sigmoid and concatenation. Other formats take its weights as
  float ones.

  Args:
    model: A float or quantization-aware model with one image input.
    options: What the file shall be.
    representative: Yields float32 images [1, h, w, c]; needed to calibrate a
      model for an integer format.
    traces: Those of earlier files of the model, which must not have changed.

  Raises:
    UsageError: If the options do not go together, or the model has what TFLite
      cannot hold under them.
  """
  formats.check(model, options)
  traces = traces or Traces()
  spec, reason = formats.FORMATS[options.file_format], ''
  if not spec.calibrated:
    lowering = _FOR_SPARSE_INFERENCE if options.sparse else ()
    return _converted(*_convert(
        model, options, traces, lowering=lowering), None)
  if options.file_format == 'int8' and calibration.quantizers_of(model):
    lowering = (pointwise.lower,) if options.runtime == 'xnnpack' else ()
    return _converted(*_convert(
        model, options, traces, trained=True,
        lowering=(single_scale.merge, identity_product.remove, *lowering)),
            'trained')
  if options.file_format == 'int16x8' and sixteen_bits.possible(model):
    found, reason = _with_sixteen_bits(model, options)
    if not reason:
      return _converted(*found, 'trained')
  if representative is None:
    raise ValueError(f'{options.file_format} of this model needs images')
  return _converted(
      *_convert(model, options, traces, representative), 'calibrated', reason)


def _converted(
    content: bytes, traced, ranges: str | None, reason: str = ''
) -> Converted:
  return Converted(
      content, frozen_graph.variables_needed(traced), ranges, reason)


def _with_sixteen_bits(
    model: tf_keras.Model, options: formats.Options) -> tuple[tuple, str]:
  """Makes a file of 16-bit activations over the trained ranges.

  Returns:
    What `_convert` returns, and why there is no such file, or ''.
  """
  with sixteen_bits.activations(model), native_output.held_back():
    try:
      found = _convert(
          model, options, Traces(), trained=True, lowering=(int64_bias.widen,))
    except lite_convert.ConverterError as e:
      return (), f'the converter refuses {_refused_op(e)}'
    except OverflowError as e:
      return (), str(e)
  return found, sixteen_bits.problem(*found) or litert_loading.problem(found[0])


def _refused_op(error: Exception) -> str:
  found = re.search(r"error: '(tfl\.\w+)' op ", str(error))
  return f'{found[1]} of 16 bits' if found else 'the model with 16 bits'


def _convert(
    model: tf_keras.Model,
    options: formats.Options,
    traces: 'Traces',
    representative: Representative | None = None,
    trained: bool = False,
    lowering: Sequence[flatbuffer.Pass] = (),
) -> tuple[bytes, Any]:
  """Runs the converter, then the passes over its file.

  Args:
    model: The model.
    options: What the file shall be.
    traces: Those of the model.
    representative: Images to calibrate with, or None.
    trained: Whether the quantizers' ranges are those of the file.
    lowering: Passes for this file beside those for every file.

  Returns:
    The file, and the concrete function that it was converted from.
  """
  spec, output = formats.FORMATS[options.file_format], options.output
  with native_output.held_back():
    traced, graph = traces.of(model, options, trained)
    converter = frozen_graph.Converter(traced, graph)
  converter.optimizations = [
      *([tf.lite.Optimize.DEFAULT] if spec.optimize else []),
      *([tf.lite.Optimize.EXPERIMENTAL_SPARSITY] if options.sparse else [])]
  if trained and formats.has_low_bits(model):
    # Or kernels of 4 bits are written with 8.
    converter._experimental_low_bit_qat = True  # pylint: disable=protected-access
  if spec.weight_type:
    converter.target_spec.supported_types = [spec.weight_type]
  if representative is not None:
    converter.representative_dataset = lambda: (
        [batch] for batch in _batches(
            representative(), options.batch_size or 1))
  if representative is not None or options.file_format == 'int16x8':
    converter.target_spec.supported_ops = [spec.ops]
  converter.inference_input_type = formats.IO_DTYPES[options.io_dtype]
  converter.inference_output_type = formats.IO_DTYPES[options.io_dtype]
  try:
    with native_output.held_back():
      content = converter.convert()
  except RuntimeError as e:
    missing = sorted(set(_MISSING_KERNEL.findall(str(e))))
    if not missing:
      raise
    raise errors.UsageError(
        f'format: TFLite has no {options.file_format} kernel for '
        f'{", ".join(missing)}, which the model needs') from e
  content = flatbuffer.edit(
      content, *lowering, signature.add(output.name), metadata.add(
          output.name, f'{options.file_format}: {spec.description}',
          f'modelgarden_opt {modelgarden_opt.__version__}', output.labels))
  return metadata.append_labels(content, output.labels), traced


def _batches(
    images: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
  """Yields images in batches, the last one filled up with its last image."""
  images = iter(images)
  while batch := list(itertools.islice(images, size)):
    yield np.concatenate(batch + batch[-1:] * (size - len(batch)))


class Traces:
  """The inference of models as traced and frozen graphs, each made once."""

  def __init__(self):
    """Starts without a graph."""
    self._made: dict[tuple[Any, ...], tuple[Any, Any]] = {}

  def of(
      self, model: tf_keras.Model, options: formats.Options, trained: bool
  ) -> tuple[Any, tf.compat.v1.GraphDef]:
    """Returns a concrete function, and its graph with constants.

    Args:
      model: The model.
      options: What the file shall be.
      trained: Whether the quantizers' ranges are those of the file.
    """
    key = (model, trained, options.hard_swish, options.batch_size,
           options.output.compute)
    if key not in self._made:
      activations.fuse_hard_swish(model, options.hard_swish == 'fused')
      try:
        traced = _trace(
            model, options.output.compute, options.batch_size, trained)
      finally:
        activations.fuse_hard_swish(model, False)
      self._made[key] = traced, frozen_graph.freeze(traced)
    return self._made[key]


def _trace(
    model: tf_keras.Model,
    finish: formats.Finish,
    batch_size: int | None,
    quantized: bool,
):
  """Returns the model's inference as a concrete function."""
  # A segmentation model is not functional: it has no input.
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
