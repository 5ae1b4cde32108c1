"""Exports a run as a `.tflite` file and verifies the file before reporting."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.data import class_names
from modelgarden_opt.data import representative
from modelgarden_opt.export import convert
from modelgarden_opt.export import formats
from modelgarden_opt.export import images as images_lib
from modelgarden_opt.export import ptq as ptq_lib
from modelgarden_opt.export import verification
from modelgarden_opt.modeling import factory
from modelgarden_opt.tasks import quantized_twin
from modelgarden_opt.tasks import run_directory

VerificationError = verification.VerificationError

# An int8 file whose pointwise and dense kernels have 4 bits.
INT4_INT8 = 'int4_int8'
_FOUR_BITS = ('task.quantization.change_num_bits=true,'
              'task.quantization.num_bits_weight=4')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """What may be asked of an export.

  Attributes:
    io_dtype: Key of `formats.IO_DTYPES`.
    checkpoint: `best`, `latest` or a file prefix.
    ptq: How a float run becomes a file of integers: `twin` calibrates a
      quantized twin of the model and converts that, `converter` leaves all to
      TFLite's converter.
    params_override: Fields of `task.quantization` for the twin, as
      `task.quantization.calibration_method=mse` or YAML.
    calibration_images: Training images that calibrate a float model for an
      integer format.
    batch_size: Fixed batch size of the file; None leaves it open.
    kind: Output of a segmentation file, see `configs.export`; None for the
      one that the run's configuration names.
    sparse: Whether kernels with many zeros are stored sparsely.
    runtime: Key of `formats.RUNTIMES`.
    verify: Whether a file that differs too much from Keras is refused. If not,
      it is kept, and what is wrong with it is returned as `problems`.
    of_set: Whether it is for files of several formats. What is asked then holds
      for those that it is for: `io_dtype` and `params_override` for integer
      files, `sparse` for float ones.
  """
  io_dtype: str = 'float32'
  checkpoint: str = 'best'
  ptq: str = ptq_lib.TWIN
  params_override: str | None = None
  calibration_images: int = 256
  batch_size: int | None = 1
  kind: str | None = None
  sparse: bool = False
  runtime: str = 'xnnpack'
  verify: bool = True
  of_set: bool = False


@dataclasses.dataclass(frozen=True)
class Shared:
  """What several files of the same models have in common, made once.

  Attributes:
    traces: The traced graphs.
    references: What the models compute, see `verification.verify`.
  """
  traces: convert.Traces = dataclasses.field(default_factory=convert.Traces)
  references: dict[Any, np.ndarray] = dataclasses.field(default_factory=dict)


def export(
    model_dir: str, file_format: str, output: str, **options: Any
) -> Mapping[str, Any]:
  """Writes a verified file; nothing is left if verification fails.

  Args:
    model_dir: The run directory. The training data are read only where
      activation ranges have to be calibrated; if they are gone, the images
      that the run directory keeps are used.
    file_format: Key of `formats.FORMATS`, or `INT4_INT8`.
    output: Path of the file.
    **options: Attributes of `Request`.

  Returns:
    What was found in the file, see `verification.verify`, whether it was
    verified, and what it was made from and verified on.

  Raises:
    UsageError: If the run, the checkpoint or the format cannot be used.
    VerificationError: If the file does not compute what the model computes.
  """
  request = Request(**options)
  assert_format(file_format, INT4_INT8)
  return Session(model_dir, request).write(file_format, output)


class Session:
  """A run that several files are made of: it is loaded, traced and read once.

  Attributes:
    run: The run.
    request: What is asked of all files.
  """

  def __init__(self, model_dir: str, request: Request):
    """Loads the run.

    Raises:
      UsageError: If the run, the checkpoint or the request cannot be used.
    """
    ptq_lib.assert_choice(request.ptq)
    if request.runtime not in formats.RUNTIMES:
      raise errors.UsageError(
          f'runtime: {request.runtime!r} is unknown'
          f'{errors.nearest(request.runtime, formats.RUNTIMES)}')
    if request.calibration_images < 1:
      raise errors.UsageError('calibration_images: must be >= 1, received '
                              f'{request.calibration_images}')
    self.request = request
    self.run = run_directory.load(model_dir, request.checkpoint)
    self._output = _output(self.run, request.kind)
    self._calibration = images_lib.Calibration(
        self.run, request.calibration_images)
    self._twins: dict[str | None, tuple[run_directory.Run, Any]] = {}
    self._shared = Shared()

  @functools.cached_property
  def verified_on(self) -> representative.Images:
    """The images that files are verified on."""
    return images_lib.for_verification(self.run)

  def refusal(self, file_format: str) -> str:
    """Returns why the run has no file of a format, '' if it may have one.

    Args:
      file_format: Key of `formats.FORMATS`, or `INT4_INT8`.
    """
    if file_format != INT4_INT8:
      return ''
    if self.run.params.task.quantization is None:
      return '' if self.request.ptq == ptq_lib.TWIN else (
          'kernels of 4 bits need --ptq=twin')
    if formats.has_low_bits(self.run.model):
      return 'the int8 file of this run has kernels of 4 bits'
    return ('the run was trained with kernels of 8 bits; train with '
            'change_num_bits: true, num_bits_weight: 4')

  def write(self, file_format: str, output: str) -> dict[str, Any]:
    """Writes a file; see `export`."""
    refusal = self.refusal(file_format)
    if refusal:
      raise errors.UsageError(f'format: {file_format}: {refusal}')
    request, run, calibration = self.request, self.run, self._calibration
    override = request.params_override
    integers = file_format in ('int8', INT4_INT8)
    if file_format == INT4_INT8:
      override = ','.join(filter(None, [_FOUR_BITS, override]))
    made_with = formats.Options(
        file_format='int8' if integers else file_format,
        io_dtype=request.io_dtype if integers or not request.of_set
        else 'float32',
        batch_size=request.batch_size, sparse=request.sparse and (
            not request.of_set or formats.FORMATS[file_format].sparse),
        runtime=request.runtime,
        hard_swish=run.params.task.export.hard_swish, output=self._output)
    calibration.listing = None
    twin = self._twin(
        made_with, override if integers or not request.of_set else None)
    converted = twin or run
    block = converted.params.task.quantization
    found = write(
        converted.model, output, made_with, calibration,
        lambda: self.verified_on.images,
        float_model=run.model if twin else None,
        calibrated=bool(twin) or (block is not None and not block.training),
        float_layers=has_float_layers(block), verify=request.verify,
        shared=self._shared)
    return {
        'model': output, 'checkpoint': run.checkpoint, 'weights': run.weights,
        'calibrated_on': calibration.listing,
        'verified_on': self.verified_on.listing, **found,
        'format': file_format}

  def _twin(
      self, made_with: formats.Options, override: str | None
  ) -> run_directory.Run | None:
    """Returns the run with a calibrated twin of its model, None without one.

    Files with the same fields of `task.quantization` share a twin.

    Raises:
      UsageError: If the model has no twin, or fields are given for none.
    """
    run, ptq, form = self.run, self.request.ptq, made_with.file_format
    is_float = run.params.task.quantization is None
    if not is_float or ptq != ptq_lib.TWIN or form not in ptq_lib.FORMATS or (
        override and form != 'int8'):
      if override:
        raise errors.UsageError(
            'params_override: is for --format=int8 --ptq=twin of a float run, '
            f'received --format={form} --ptq={ptq} and a '
            f'{"float" if is_float else "quantized"} run')
      return None
    if override not in self._twins:
      try:
        with ptq_lib.remedy():
          twin = quantized_twin.of_run(run, override)
      except errors.UsageError:
        if form == 'int8':
          raise
        return None  # The converter has integer ops for what has no twin.
      formats.check(twin.model, made_with)
      ptq_lib.calibrate(
          twin.model, twin.params.task.quantization, self._calibration)
      self._twins[override] = twin, self._calibration.listing
    twin, self._calibration.listing = self._twins[override]
    return twin


def assert_format(file_format: str, *others: str) -> None:
  """Raises `UsageError` for what is no key of `formats.FORMATS`, or another."""
  known = (*formats.FORMATS, *others)
  if file_format not in known:
    raise errors.UsageError(
        f'format: {file_format!r} is not an export format'
        f'{errors.nearest(file_format, known)}')


def has_float_layers(quantization: Any | None) -> bool:
  """Whether a `quantization:` block keeps some layers in float."""
  return quantization is not None and any(
      rule.enabled is False for rule in quantization.rules)


def write(
    model: tf_keras.Model,
    output: str,
    options: formats.Options,
    calibration: convert.Representative | None,
    images: Callable[[], np.ndarray],
    *,
    float_model: tf_keras.Model | None = None,
    calibrated: bool = False,
    float_layers: bool = False,
    verify: bool = True,
    shared: Shared | None = None,
) -> dict[str, Any]:
  """Writes a model as a file and compares both.

  Args:
    model: A float or compressed model.
    output: Path of the file; nothing is there if verification fails.
    options: What the file shall be.
    calibration: See `convert.convert_as`.
    images: Returns float32 images [n, h, w, c] that file and model get.
    float_model: The model whose calibrated twin `model` is, to compare the
      file with that, too.
    calibrated: Whether the ranges of the model's quantizers were not trained.
    float_layers: Whether a rule keeps some layers of the model in float.
    verify: See `Request`.
    shared: What this file has in common with others of the model.

  Returns:
    What was found in the file, see `verification.verify`.

  Raises:
    UsageError: If the model cannot be converted so.
    VerificationError: If the file does not compute what the model computes.
  """
  shared = shared or Shared()
  converted = convert.convert_as(model, options, calibration, shared.traces)
  ranges, ptq = converted.ranges, None
  if ranges == 'calibrated':
    ptq, float_model = ptq_lib.CONVERTER, None  # The twin's ranges are not in.
  elif ranges == 'trained' and calibrated:
    ranges, ptq = 'calibrated', ptq_lib.TWIN
  with _temporary(output, converted.content) as path:
    found, problems = verification.verify(
        path, model, options, converted, images(), float_layers, float_model,
        shared.references)
    if problems and verify:
      raise VerificationError(_refusal(problems, ranges))
    files.rename(path, output)
  return {
      'format': options.file_format, 'io_dtype': options.io_dtype,
      'runtime': options.runtime,
      'verified': verify, 'problems': problems,
      'ranges': ranges, 'ranges_reason': converted.reason, 'ptq': ptq, **found}


@contextlib.contextmanager
def _temporary(output: str, content: bytes) -> Iterator[str]:
  """Gives a file a name beside its own, and removes it if it is still there."""
  with files.temporary(output) as path:
    files.write(path, content)
    yield path


def _refusal(problems: list[str], ranges: str | None) -> str:
  """Says what is wrong with a file and what can be done."""
  remedies = {
      'calibrated': 'more --calibration_images, quantization-aware training, '
                    'or --format=dynamic_int8 or float16',
      'trained': 'a model that is trained further, or --format=float32'}
  may_help = remedies.get(ranges, '--format=float32')
  if any(problem.startswith(verification.FLOAT_OPS) for problem in problems):
    may_help = ('ReLU or other layers that have integer ops, a rule of '
                'quantization that leaves those layers in float, '
                '{path: ..., enabled: false}, or --format=dynamic_int8')
  if any(problem.startswith(verification.BIASES) for problem in problems):
    may_help = ('training the ranges again from the float run, since the range '
                'of their input or kernel has shrunk to almost nothing, or a '
                'rule that leaves those layers in float')
  return (
      'the file does not compute what its Keras model computes: '
      f'{"; ".join(problems)}. What may help: {may_help}. --no_verify keeps '
      'the file anyway')


def _output(run: run_directory.Run, kind: str | None) -> formats.Output:
  """Returns the output that a file of a run has.

  Raises:
    UsageError: If a file of the run's task cannot have such an output.
  """
  configured = getattr(run.params.task.export, 'output', None)
  if kind and not configured:
    raise errors.UsageError(
        f'segmentation_output: {kind!r} is for segmentation; '
        f'{run.model_dir!r} holds a run of another task')
  kind = kind or configured or 'logits'
  size = run.params.task.model.input_size[:2]

  def compute(outputs):
    logits = factory.logits(outputs)
    if kind == 'logits':
      return logits
    logits = tf.image.resize(logits, size)
    if kind == 'resized_logits':
      return logits
    return tf.argmax(logits, axis=-1, output_type=tf.int32)

  return formats.Output(kind, compute, class_names.of(run.params.task))
