"""Which layers make the channels of a tensor, and which kernel reads them.

Found by calling a model once: a tensor carries who made its channels from
layer to layer, as it carries the step of its quantizer. So every model that can
be quantized has its units, whatever its blocks and their options are.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import functools
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import topology
from modelgarden_opt.compression import twin
from modelgarden_opt.compression.quantization import activations
from modelgarden_opt.compression.quantization import functions
from modelgarden_opt.modeling import calibration

# Layers that treat every channel by itself and compute k f(x) from k x for
# every k > 0.
_PER_CHANNEL = frozenset({
    *topology.PASSING, 'AveragePooling2D', 'GlobalAveragePooling2D',
    'MNV4LayerScale'} - {'Permute'})
_MARK = 'channels'
# Height and width of the image for models that take any.
_SIZE = 64


@dataclasses.dataclass(eq=False)
class Unit:
  """A kernel with what runs right after it.

  Attributes:
    op: The convolution or dense layer.
    norm: The batch normalization that alone reads it, or None.
    consumer: The layer whose kernel alone reads the unit's channels, after
      layers that scale with their input; None if there is no such layer.
    blocked_by: Name of an activation that does not scale with its input and
      keeps the unit from having a consumer, or empty.
  """
  op: leaves.Rewired
  norm: tf_keras.layers.BatchNormalization | None = None
  consumer: leaves.Rewired | None = None
  blocked_by: str = ''

  @property
  def size(self) -> int:
    """Number of output channels."""
    shape = self.op.kernel_variable.shape
    depthwise = self.op.layer_type == 'DepthwiseConv2D'
    return shape[-1] * shape[-2] if depthwise else shape[-1]


def find(model: tf_keras.Model) -> list[Unit]:
  """Returns the units of a model, in the order in which they run.

  Layers that run several times are in none: they read channels of several
  makers.

  Args:
    model: A model of twins that quantize. (Others call some activations as
      functions, which cannot be seen.)
  """
  tracer = _Tracer()
  inputs = model.inputs or model.backbone.inputs
  image = tf.zeros([1, *(side or _SIZE for side in inputs[0].shape[1:])])
  with calibration.quantizer_mode(model, calibration.Mode.PASS_THROUGH):
    with tracer.watching(model):
      outputs = model(image, training=False)
  tracer.read(outputs)
  return list(tracer.units())


@dataclasses.dataclass(eq=False)
class _Mark:
  """What a tensor carries: who made its channels.

  Attributes:
    trace: What is known of the maker.
    is_raw: Whether it is what the kernel computed, and nothing else.
    readers: What reads the tensor; None for what cannot be followed.
  """
  trace: '_Trace'
  is_raw: bool
  readers: list[tf_keras.layers.Layer | None] = dataclasses.field(
      default_factory=list)


@dataclasses.dataclass(eq=False)
class _Trace:
  """A kernel's layer and every tensor that holds its channels."""
  op: leaves.Rewired
  marks: list[_Mark] = dataclasses.field(default_factory=list)
  blocked_by: str = ''

  def mark(self, x: tf.Tensor, is_raw: bool = False) -> None:
    self.marks.append(_Mark(self, is_raw))
    internals.mark(x, _MARK, self.marks[-1])


class _Tracer:
  """Follows channels through one call of a model."""

  def __init__(self):
    self._traces: list[_Trace] = []
    self._num_calls: dict[int, int] = {}

  @contextlib.contextmanager
  def watching(self, model: tf_keras.Model) -> Iterator[None]:
    """Follows the calls of layers inside of the context."""
    with contextlib.ExitStack() as stack:
      for layer in internals.layers_of(model):
        if not isinstance(layer, (tf_keras.Model, twin.Twin)) or (
            _reads_by_raw_op(layer)):
          stack.enter_context(internals.replaced(
              layer, call=functools.partial(self._call, layer, layer.call)))
      yield

  def _call(self, layer, call, inputs, *args, **kwargs):
    marks = self.read((inputs, args, kwargs), layer)
    outputs = call(inputs, *args, **kwargs)
    self._num_calls[id(layer)] = self._num_calls.get(id(layer), 0) + 1
    kind = rules.float_type(layer)
    if isinstance(layer, leaves.Rewired) and kind in topology.KERNELS:
      self._start(layer, outputs)
    elif len(marks) == 1 and isinstance(outputs, tf.Tensor):
      self._hand_on(layer, kind, marks[0], outputs)
    return outputs

  def read(self, values: Any, layer=None) -> list[_Mark]:
    """Notes who reads tensors, None for the outside; returns their marks."""
    found = [internals.mark_of(x, _MARK) for x in tf.nest.flatten(values)]
    found = [mark for mark in found if mark is not None]
    for mark in found:
      mark.readers.append(layer)
    return found

  def _start(self, layer: leaves.Rewired, outputs: tf.Tensor) -> None:
    trace = _Trace(layer)
    self._traces.append(trace)
    name = functions.function_name(layer.activation)
    if functions.is_homogeneous(name):
      trace.mark(outputs, is_raw=functions.is_linear(layer.activation))
    else:
      trace.blocked_by = name

  def _hand_on(self, layer, kind: str, mark: _Mark, outputs) -> None:
    """Marks what a layer made of a marked tensor, if it has its channels."""
    if kind == 'Activation' or activations.is_activation(layer):
      name = activations.name_of(layer)
      if not functions.is_homogeneous(name):
        mark.trace.blocked_by = name
        return
    elif not (kind in _PER_CHANNEL or isinstance(layer, activations.Passing)
              or (kind in topology.NORMS and mark.is_raw)):
      return
    size = Unit(mark.trace.op).size
    # Flattened, the channels are there once for every pixel.
    if outputs.shape[-1] % size == 0:
      mark.trace.mark(outputs)

  def units(self) -> Iterator[Unit]:
    """Yields what was found."""
    for trace in self._traces:
      if self._num_calls[id(trace.op)] > 1:
        continue
      readers = [self._only_reader(mark) for mark in trace.marks]
      unit = Unit(trace.op, blocked_by=trace.blocked_by)
      if readers and trace.marks[0].is_raw and _is_norm(readers[0]):
        unit.norm = readers[0]
      if readers and all(readers) and _reads(readers[-1], unit.size):
        unit.consumer = readers[-1]
      yield unit

  def _only_reader(self, mark: _Mark) -> tf_keras.layers.Layer | None:
    """Returns what alone reads a tensor, and reads nothing else."""
    if len(mark.readers) != 1 or mark.readers[0] is None:
      return None
    reader = mark.readers[0]
    return reader if self._num_calls[id(reader)] == 1 else None


def _reads_by_raw_op(layer: tf_keras.layers.Layer) -> bool:
  """Whether a block joins its input with something outside of any layer."""
  if not isinstance(layer, twin.Twin):
    return False
  block = topology.BLOCKS[topology.key(rules.float_class(type(layer)))]
  return block.raw_input and layer.has_raw_output


def _is_norm(layer: tf_keras.layers.Layer | None) -> bool:
  return layer is not None and rules.float_type(layer) in topology.NORMS


def _reads(layer: tf_keras.layers.Layer, size: int) -> bool:
  """Whether a layer has a kernel with an own row for every channel."""
  if not isinstance(layer, leaves.Rewired):
    return False
  if rules.float_type(layer) == 'Dense':
    return layer.kernel.shape[0] % size == 0
  return rules.float_type(layer) in topology.KERNELS and (
      layer.kernel_variable.shape[2] == size)
