"""From a Keras model in memory to a verified `.tflite` file."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.api import arguments
from modelgarden_opt.api import compressing
from modelgarden_opt.configs import block as block_cfg
from modelgarden_opt.export import exporter
from modelgarden_opt.export import formats
from modelgarden_opt.export import ptq as ptq_lib
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import compressed_model
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling import keras_models

# Images that a file is compared on, and that calibrate it.
_VERIFIED, _CALIBRATED = 64, 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """What else may be asked of an export.

  Attributes:
    io_dtype: `float32`, or `int8` or `uint8` with format `int8`.
    batch_size: Fixed batch size of the file; None leaves it open.
    sparse: Whether kernels with many zeros are stored sparsely.
    hard_swish: `decomposed` or `fused`, see docs/configuration.md.
    runtime: What the file is for, `xnnpack` or `reference`.
    labels: Names of the classes, for the file's label map.
    ptq: How a float model becomes an `int8` file: `twin` calibrates a
      quantized twin of it and converts that, `converter` leaves all to
      TFLite's converter.
    quantization: Fields of the `quantization:` block of that twin, or the
      block.
    verify: Whether a file that differs too much from Keras is refused.
  """
  io_dtype: str = 'float32'
  batch_size: int | None = 1
  sparse: bool = False
  hard_swish: str = 'decomposed'
  runtime: str = 'xnnpack'
  labels: Sequence[str] = ()
  ptq: str = ptq_lib.TWIN
  quantization: block_cfg.Block | Mapping[str, Any] | None = None
  verify: bool = True


def export(
    model: tf_keras.Model,
    path: str,
    format: str = 'int8',  # pylint: disable=redefined-builtin
    representative_data: Any = None,
    **options: Any,
) -> Mapping[str, Any]:
  """Writes a verified file; no file is left if verification fails.

  Args:
    model: A float model, or what `compress` returned. One image goes in, and
      one tensor comes out.
    path: Path of the file.
    format: `float32`, `float16`, `dynamic_int8`, `int8` or `int16x8`; the
      last two keep the measured ranges of a quantized model, and of a float one
      take a quantized twin.
    representative_data: Training images (an array, a data set or anything else
      that yields images or batches), which calibrate a float model for an
      integer format and are what file and model are compared on; without any
      that is noise. Also called `representative`.
    **options: Attributes of `Request`.

  Returns:
    What was found in the file: census, kernels, sizes, and how far its outputs
    are from those of the model.

  Raises:
    UsageError: If something is asked for that cannot be done.
    Failure: If the file does not compute what the model computes.
  """
  keras_models.assert_model(model)
  exporter.assert_format(format)
  path = arguments.path(path, 'path')
  data = options.pop('representative', representative_data)
  request = _request(options)
  shape = arguments.image_shape(model)
  _assert_one_output(model)
  if format in ('int8', 'int16x8') and not calibration.is_calibrated(model):
    raise errors.UsageError(
        'model: its activation ranges were never measured, neither by training '
        'nor by modelgarden_opt.calibrate(model, images)')
  images = None
  if data is not None:
    images = _first(data, shape, _CALIBRATED)
  made_with = formats.Options(
      file_format=format, io_dtype=request.io_dtype,
      batch_size=request.batch_size, sparse=request.sparse,
      hard_swish=request.hard_swish, runtime=request.runtime,
      output=formats.Output(
          compute=factory.logits, labels=tuple(request.labels)))
  if images is None and formats.needs_images(model, format):
    raise errors.UsageError(
        f'representative_data: {format} of a float model needs training '
        'images, received None')
  broken = constraints.problems(constraints.find(model))
  if broken:
    raise errors.Failure(
        'the kernels are not as pruning and clustering left them: '
        + '; '.join(broken))
  representative = None if images is None else _one_by_one(images)
  twin, block = _twin(model, format, request)
  if twin is not None:
    formats.check(twin, made_with)
    ptq_lib.calibrate(twin, block, representative)
  found = exporter.write(
      model if twin is None else twin, path, made_with, representative,
      lambda: _noise(shape) if images is None else images[:_VERIFIED],
      float_model=None if twin is None else model,
      calibrated=twin is not None or (block is not None and not block.training),
      float_layers=exporter.has_float_layers(block), verify=request.verify)
  return {'model': path, 'verified_on': {
      'source': 'noise' if images is None else 'representative_data'}, **found}


def _blocks(model: tf_keras.Model) -> Mapping[str, block_cfg.Block]:
  """Returns the blocks that a model was compressed with, by technique."""
  return getattr(
      model, 'origin', compressed_model.Origin()).blocks


def _twin(
    model: tf_keras.Model, file_format: str, request: Request
) -> tuple[tf_keras.Model | None, block_cfg.Block | None]:
  """Returns a quantized twin of a model, and the `quantization:` block.

  The twin is None where none is wanted, and the block is the model's own then.

  Raises:
    UsageError: If the model has no twin, or fields are given for none.
  """
  is_float = not calibration.quantizers_of(model)
  wanted = (is_float and request.ptq == ptq_lib.TWIN and
            file_format in ptq_lib.FORMATS)
  if wanted and (file_format == 'int8' or request.quantization is None):
    try:
      with ptq_lib.remedy():
        blocks = arguments.blocks({
            **_blocks(model), 'quantization': request.quantization or {}})
        return compressing.again(model, blocks), blocks['quantization']
    except errors.UsageError:
      if file_format == 'int8':
        raise
      # The converter has integer ops for what has no twin.
  if request.quantization is not None:
    raise errors.UsageError(
        "quantization: is for format 'int8' and ptq 'twin' of a float model, "
        f'received {file_format!r} and {request.ptq!r} and a '
        f'{"float" if is_float else "quantized"} model')
  return None, _blocks(model).get('quantization')


def _request(options: Mapping[str, Any]) -> Request:
  fields = [field.name for field in dataclasses.fields(Request)]
  unknown = [name for name in options if name not in fields]
  if unknown:
    raise errors.UsageError(
        f'export: no such option {unknown[0]!r}'
        f'{errors.nearest(unknown[0], fields)}')
  request = Request(**options)
  for name, choices in (('io_dtype', formats.IO_DTYPES),
                        ('runtime', formats.RUNTIMES),
                        ('ptq', ptq_lib.CHOICES),
                        ('hard_swish', ('decomposed', 'fused'))):
    value = getattr(request, name)
    if value not in choices:
      raise errors.UsageError(
          f'{name}: must be one of {", ".join(choices)}, received {value!r}')
  return request


def _assert_one_output(model: tf_keras.Model) -> None:
  outputs = model.output if model.outputs else None
  if isinstance(outputs, Mapping) and 'logits' in outputs:
    return
  count = len(tf.nest.flatten(outputs))
  if outputs is not None and count != 1:
    raise errors.UsageError(
        f'model: a file has one output, received {count}; export '
        'tf_keras.Model(model.input, one of model.outputs)')


def _first(data: Any, shape: tuple[int, ...], count: int) -> np.ndarray:
  """Returns the first images, float32 [n, h, w, c]."""
  found, total = [], 0
  for batch in arguments.images(data, shape, 'representative_data'):
    found.append(batch)
    total += len(batch)
    if total >= count:
      break
  return np.concatenate(found)[:count]


def _one_by_one(images: np.ndarray):
  def representative() -> Iterator[np.ndarray]:
    yield from (image[np.newaxis] for image in images)
  return representative


def _noise(shape: tuple[int, ...]) -> np.ndarray:
  """Returns images that stand for none in particular."""
  if None in shape:
    raise errors.UsageError(
        f'model: its images have no fixed size, received {list(shape)}; a file '
        'needs one: tf_keras.Input([height, width, channels])')
  return np.random.default_rng(0).normal(size=(16, *shape)).astype(np.float32)
