"""Runs `.tflite` files: float in, float out, whatever the file's types."""

from collections.abc import Sequence
import os
import time

import numpy as np

from modelgarden_opt import errors
from modelgarden_opt.evaluation import litert_loading
from modelgarden_opt.evaluation import tensors

# Images of a call where the file leaves their number open.
_OPEN_BATCH = 8


class Model:
  """A loaded `.tflite` file with one input and one output.

  Attributes:
    path: The file.
    seconds: How long it has run.
  """

  def __init__(self, path: str, num_threads: int | None = None):
    """Loads a file and prepares it with the default delegate.

    Args:
      path: The file.
      num_threads: Threads of the interpreter; None for all cores.

    Raises:
      UsageError: If there is no such file, it is not a TFLite model, it has
        several inputs or outputs, or its input integers without a scale.
    """
    self.path, self.seconds = path, 0.0
    self._interpreter = litert_loading.load(
        path, num_threads or os.cpu_count())
    self._input = self._single('input')
    self._output = self._single('output')
    try:
      tensors.quantize(np.zeros(1), self._input)
    except errors.UsageError as e:
      raise errors.UsageError(f'{e}: {path!r}') from None

  def _single(self, what: str) -> tensors.Detail:
    """Returns the one input or output of the file."""
    try:
      details = getattr(self._interpreter, f'get_{what}_details')()
    except UnicodeDecodeError as e:
      raise errors.UsageError(
          f'tflite: {self.path!r} is damaged: name of an {what}: {e}'
      ) from None
    if len(details) != 1:
      listed = '; '.join(map(tensors.described, details)) or 'none'
      raise errors.UsageError(
          f'tflite: {self.path!r} has {errors.counted(len(details), what)}, '
          f'expected one: {listed}')
    return details[0]

  def assert_takes(self, image_shape: Sequence[int]) -> None:
    """Raises `UsageError` if the file cannot take images of a shape.

    Args:
      image_shape: Height, width and channels. An input [n, channels, height,
        width] takes them, too.
    """
    shape, image_shape = self.input_shape, tuple(image_shape)
    first = image_shape[-1:] + image_shape[:-1]
    if shape[1:] not in (image_shape, first):
      raise errors.UsageError(
          f'tflite: the input of {self.path!r} is '
          f'{tensors.described(self._input)}, the images are '
          f'{[*image_shape]}')

  def assert_computes(self, num_classes: int, segmentation: bool) -> None:
    """Raises `UsageError` if the output is not one of a task.

    Args:
      num_classes: Number of classes.
      segmentation: Whether every pixel has a class; then the output may hold
        labels.
    """
    shape = self.output_shape
    if segmentation and len(shape) == 3:
      return
    rank, expected = 2, f'[n, {num_classes}]'
    if segmentation:
      rank, expected = 4, f'[n, h, w, {num_classes}], or labels [n, h, w]'
    if len(shape) != rank or shape[-1] != num_classes:
      raise errors.UsageError(
          f'tflite: the output of {self.path!r} is '
          f'{tensors.described(self._output)}, expected {expected}')

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Shape of the input, with the batch size that it is prepared for."""
    return tuple(self._input['shape'])

  @property
  def output_shape(self) -> tuple[int, ...]:
    """Shape of the output, with the batch size that it is prepared for."""
    return tuple(self._output['shape'])

  @property
  def output_scale(self) -> float:
    """Quantization step of the output as the file computes it, 0 for float."""
    with litert_loading.named(self.path):
      return _step_of_output(self._interpreter, self._output)

  def __call__(self, images: np.ndarray) -> np.ndarray:
    """Returns the outputs of float images.

    Outputs are floats whatever the file's types, but for labels. Images are
    fed in the file's own batch size; the last batch is filled up, and what the
    file computes of the filling is dropped.

    Args:
      images: float32 array [n, h, w, c], preprocessed; n >= 1.
    """
    if images.shape[1:] != self.input_shape[1:] and images.ndim == 4:
      images = np.moveaxis(images, -1, 1)  # Channels come first in the file.
    if self._input['shape_signature'][0] == -1:
      self._resize(min(len(images), _OPEN_BATCH))
    size = self.input_shape[0]
    missing = -len(images) % size
    filled = images if not missing else np.concatenate(
        [images, np.repeat(images[-1:], missing, axis=0)])
    with litert_loading.named(self.path):
      outputs = np.concatenate([
          self._run(filled[start:start + size])
          for start in range(0, len(filled), size)])
    return outputs[:len(images)]

  def _resize(self, batch_size: int) -> None:
    """Prepares a file with an open batch for batches of another size."""
    if self.input_shape[0] == batch_size:
      return
    self._interpreter.resize_tensor_input(
        self._input['index'], [batch_size, *self.input_shape[1:]])
    self._interpreter.allocate_tensors()
    self._input = self._single('input')
    self._output = self._single('output')

  def set_input(self, images: np.ndarray) -> None:
    """Places float images of shape `input_shape` in the input tensor."""
    self._interpreter.set_tensor(
        self._input['index'], tensors.quantize(images, self._input))

  def invoke(self) -> None:
    """Runs the model on what the input tensor holds."""
    begin = time.perf_counter()
    self._interpreter.invoke()
    self.seconds += time.perf_counter() - begin

  def _run(self, images: np.ndarray) -> np.ndarray:
    self.set_input(images)
    self.invoke()
    return tensors.dequantize(
        self._interpreter.get_tensor(self._output['index']), self._output)


def _step_of_output(interpreter, detail) -> float:
  """Returns the scale of the integer tensor that the output comes from."""
  if detail['quantization'][0]:
    return float(detail['quantization'][0])
  scales = {t['index']: t['quantization'][0]
            for t in interpreter.get_tensor_details()}
  return next((float(scales[int(op['inputs'][0])])
               for op in litert_loading.ops(interpreter)
               if op['op_name'] == 'DEQUANTIZE' and
               detail['index'] in op['outputs']), 0.0)
