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
import functools
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.analysis import stages as stages_lib
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
# Of what comes before a layer, of all images.
_MAX_BYTES = 2 << 30
# Activations of files have so many bits.
_BITS = 8


class _Untransformed:
  """Stands for the transforms of a kernel that were applied before."""

  computes_on_integers = False

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
    paths: Paths of all that is quantized, in the order of the model.
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
    # Base, stage, and what comes before the stage: the last prefix.
    self._known: tuple[str, int, list[Any]] = ('', 0, [])
    for quantizer in observing.activation_quantizers(run.model):
      self._switches.setdefault(quantizer.path, tf.Variable(False))
    self._stages = stages_lib.Stages(run.model)
    self.paths = sorted(dict.fromkeys([*self.kernels, *self._switches]),
                        key=self._stage_of)
    with contextlib.ExitStack() as stack:
      stack.enter_context(self._stages.wrapped())
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

  def outputs(self, path: str = '', base: str = '') -> np.ndarray:
    """Returns the logits of all images, as the model is switched now.

    Args:
      path: The only layer that is not as in the base; empty if others are.
      base: A name of how all other layers are: what comes before the layer is
        computed once for every base.
    """
    cut = max((cut for cut in self._cuts if cut <= self._stage_of(path)),
              default=0) if path else 0
    start, given = self._prefix(base, cut)
    return np.concatenate([
        self._stages.outputs(
            functools.partial(self._run.predict, images), start, x)
        for images, x in zip(self._batches(), given)])

  def _batches(self) -> Iterator[np.ndarray]:
    height, width = self._images.shape[1:3]
    size = min(_MOST_IMAGES, max(1, _PIXELS // (height * width)))
    for begin in range(0, len(self._images), size):
      yield self._images[begin:begin + size]

  @functools.cached_property
  def _cuts(self) -> list[int]:
    two = np.repeat(self._images[:1], 2, axis=0)
    two[1] = self._images[-1]
    return self._stages.cuts(functools.partial(self._run.predict, two))

  @functools.cached_property
  def _stage_by_path(self) -> dict[str, int]:
    """The first stage with anything of a path, by path."""
    found: dict[str, int] = {}
    for index, layer in enumerate(self._stages.layers):
      paths = [q.path for q in observing.activation_quantizers(layer)]
      paths += [
          getattr(part, 'path', '') for part in internals.layers_of(layer)]
      for path in paths:
        found.setdefault(path, index)
    return found

  def _stage_of(self, path: str) -> int:
    return self._stage_by_path.get(path, 0)

  def _prefix(
      self, base: str, start: int) -> tuple[int, Iterable[tf.Tensor | None]]:
    """Returns where to begin, and what every batch is there.

    Args:
      base: See `outputs`.
      start: The stage to begin at, if what comes before fits into memory.
    """
    known, stage, values = self._known
    if not start or known != base or stage > start:
      stage, values = 0, [None] * sum(1 for _ in self._batches())
    found = []
    for images, x in zip(self._batches(), values):
      if stage == start:
        return start, values
      found.append(self._stages.output_of(
          start - 1, functools.partial(self._run.predict, images), stage, x))
      size = found[0].shape.num_elements() * found[0].dtype.size
      if size * len(values) > _MAX_BYTES:
        return 0, [None] * len(values)
    self._known = base, start, found
    return start, found

  def treated_by(self, technique: str, parameter: float) -> list[str]:
    """Returns the paths of what a technique treats.

    Args:
      technique: Key of `treatments.TREATMENTS`.
      parameter: Its parameter. Of other bits than 8 only kernels can be.
    """
    if technique == 'quantization' and parameter == _BITS:
      return self.paths
    return [path for path in self.paths if path in self.kernels
            and treatments.treats(technique, self.kernels[path].leaf)]

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
