"""A quantized model whose layers are switched one by one, traced once.

Kernels are changed outside of the graph and assigned. Activations pass a
conditional op with a variable: where it is off, a layer computes what the
float model computes. So hundreds of changes cost hundreds of inferences, and
no tracing.
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.analysis import treatments
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression.quantization import quantizers
from modelgarden_opt.modeling import observing
from modelgarden_opt.modeling.rounding import layerwise
from modelgarden_opt.tasks import run_directory

# Of a batch, in a layer as large as the image.
_PIXELS = 2**21
_MOST_IMAGES = 256
# Activations of files have so many bits.
_BITS = 8


class _Untransformed:
  """Stands for the transforms of a kernel that were applied before."""

  def __call__(self, kernel: tf.Tensor, training: bool) -> tf.Tensor:
    del training
    return kernel

  def step(self, kernel: tf.Tensor) -> None:
    """Has none: biases are not rounded."""


@dataclasses.dataclass
class Kernel:
  """The kernel of a layer.

  Attributes:
    leaf: The layer.
    value: What it is in the float model.
  """
  leaf: leaves.Rewired
  value: np.ndarray

  @property
  def bits(self) -> int:
    """Bits that the run gives it."""
    return layerwise.quantizer_of(self.leaf).num_bits


def kernels_of(model: tf_keras.Model) -> dict[str, Kernel]:
  """Returns the quantized kernels of a model by path, in the model's order."""
  return {layer.path: Kernel(layer, layer.kernel_variable.numpy())
          for layer in internals.layers_of(model)
          if isinstance(layer, leaves.Rewired) and (
              layerwise.quantizer_of(layer) is not None)}


class Probe:
  """The model of a run, of which any part is quantized or changed.

  Attributes:
    kernels: Its kernels by path.
    paths: Paths of all that is quantized, kernels first.
  """

  def __init__(self, run: run_directory.Run, images: np.ndarray):
    """Traces the model.

    Args:
      run: A run with a quantized model whose ranges are known.
      images: float32 array [n, height, width, channels], n >= 1.
    """
    self.kernels = kernels_of(run.model)
    self._switches: dict[str, tf.Variable] = {}
    # A copy, which is traced by itself: another probe may have traced the run.
    self._run = dataclasses.replace(run)
    self._images = images
    for quantizer in observing.activation_quantizers(run.model):
      self._switches.setdefault(quantizer.path, tf.Variable(False))
    self.paths = list(dict.fromkeys([*self.kernels, *self._switches]))
    with contextlib.ExitStack() as stack:
      for kernel in self.kernels.values():
        stack.enter_context(internals.replaced(
            kernel.leaf, chain=_Untransformed()))
      stack.enter_context(observing.activations(run.model, self._switched))
      self._run.predict(images[:1])

  def _switched(
      self, quantizer: quantizers.ActivationQuantizer, x: tf.Tensor
  ) -> tf.Tensor:
    return tf.cond(self._switches[quantizer.path],
                   lambda: quantizer.quantized(x), lambda: tf.identity(x))

  def outputs(self) -> np.ndarray:
    """Returns the logits of all images, as the model is switched now."""
    height, width = self._images.shape[1:3]
    size = min(_MOST_IMAGES, max(1, _PIXELS // (height * width)))
    return np.concatenate([
        self._run.predict(self._images[start:start + size])
        for start in range(0, len(self._images), size)])

  def treated_by(self, technique: str, parameter: float) -> list[str]:
    """Returns the paths of what a technique treats.

    Args:
      technique: Key of `treatments.TREATMENTS`.
      parameter: Its parameter. Of other bits than 8 only kernels can be.
    """
    if technique == 'quantization' and parameter == _BITS:
      return self.paths
    return [path for path, kernel in self.kernels.items()
            if treatments.treats(technique, kernel.leaf)]

  @contextlib.contextmanager
  def treated(
      self, path: str, technique: str, parameter: float) -> Iterator[None]:
    """Applies a technique to one layer of the float model for a while."""
    if technique == 'quantization':
      self._switch([path], True)
    kernel = self.kernels.get(path)
    if kernel:
      kernel.leaf.kernel_variable.assign(treatments.TREATMENTS[technique](
          kernel.leaf, kernel.value, parameter))
    try:
      yield
    finally:
      self._restore([path])

  @contextlib.contextmanager
  def quantized(
      self,
      floats: Collection[str] = (),
      bits: Mapping[str, int] | None = None,
  ) -> Iterator[None]:
    """Quantizes the layers as the run says for a while.

    Args:
      floats: Paths of those that stay in float.
      bits: Bits of kernels by path, where the run gives them others.
    """
    paths = [path for path in self.paths if path not in floats]
    self._switch(paths, True)
    for path in paths:
      if path in self.kernels:
        kernel = self.kernels[path]
        kernel.leaf.kernel_variable.assign(treatments.quantized(
            kernel.leaf, kernel.value, (bits or {}).get(path, kernel.bits)))
    try:
      yield
    finally:
      self._restore(paths)

  def _switch(self, paths: Iterable[str], on: bool) -> None:
    """Switches the quantizers of activations, where layers have any."""
    for path in paths:
      if path in self._switches:
        self._switches[path].assign(on)

  def _restore(self, paths: Sequence[str]) -> None:
    self._switch(paths, False)
    for path in paths:
      if path in self.kernels:
        kernel = self.kernels[path]
        kernel.leaf.kernel_variable.assign(kernel.value)
