"""Post-training quantization: a quantized twin that is calibrated only.

It is converted as a model is whose ranges were trained. So a file has what the
twin has, in Keras and before it is written: the ops that runtimes execute, the
zeros and clusters of its kernels, 4-bit kernels, and ranges by any method.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import itertools
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.modeling import post_training

TWIN, CONVERTER = CHOICES = ('twin', 'converter')
# Formats that a twin is for.
FORMATS = ('int8', 'int16x8')
# Images whose activations fit in memory.
_BATCH = 32


def assert_choice(ptq: str) -> None:
  """Raises `UsageError` for what is not one of `CHOICES`."""
  if ptq not in CHOICES:
    raise errors.UsageError(
        f'ptq: {ptq!r} is unknown{errors.nearest(ptq, CHOICES)}')


@contextlib.contextmanager
def remedy() -> Iterator[None]:
  """Adds to an error that there is no twin what can be done about it."""
  try:
    yield
  except errors.UsageError as e:
    raise errors.UsageError(
        f"{e}\nptq: 'converter' leaves the float model to TFLite's own "
        'post-training quantization, which has integer ops for some of the '
        'layers that have no twin') from e


def calibrate(
    twin: tf_keras.Model,
    config: Any,
    images: Callable[[], Iterator[np.ndarray]],
) -> None:
  """Makes a twin ready for conversion.

  Args:
    twin: A quantized model with the weights of the float one.
    config: Its `quantization:` block. Of its fields for calibration all but
      `calibration_steps` count: all images are used.
    images: Returns float32 images [1, h, w, c], the same ones at every call.
  """

  def batches():
    found = images()
    while batch := list(itertools.islice(found, _BATCH)):
      yield tf.constant(np.concatenate(batch)), None

  post_training.quantize(twin, config, batches)
