"""The part of a file that computes on images, and what follows it.

XNNPACK computes a whole part of a network sparsely, from the first convolution
to the mean over space, or none of it. What an op of it has to look like is in
rules; here is what they compare.
"""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from modelgarden_opt.evaluation import model_file

_CONVOLUTIONS = ('CONV_2D', 'DEPTHWISE_CONV_2D')
_DECODING = ('DENSIFY', 'DEQUANTIZE')
_SPACE = (1, 2)  # Axes of an image.
# What stands for the padding of SAME where a stride makes it uneven.
SAME = 'same'


@dataclasses.dataclass(frozen=True)
class ImageOp:
  """An op of the part; the properties of its `model_file.Op` are its own, too.

  Attributes:
    op: The op.
    first: Whether it reads an input of the file.
    last: Whether an op after the part reads its result, or it is an output.
    readers: Names of the ops that read its result.
    weights: The kernel as the file stores it, None for ops without one.
    constants: Its operands that the file stores, without a kernel and bias.
    padding: Pixels that it adds at top, bottom, left and right, those of a PAD
      before it included; or `SAME`.
  """
  op: model_file.Op
  first: bool
  last: bool
  readers: frozenset[str]
  weights: model_file.Tensor | None
  constants: tuple[model_file.Tensor, ...]
  padding: tuple[int, int, int, int] | str

  def __getattr__(self, name: str) -> Any:
    return getattr(self.op, name)

  @property
  def input_channels(self) -> int:
    """Channels of the image that it reads."""
    return self.op.operands[0].shape[-1]

  @property
  def stored_dtype(self) -> str:
    """Type in which its kernel is stored, '' for ops without one."""
    return self.weights.dtype if self.weights else ''

  @property
  def square(self) -> bool:
    """Whether its kernel is as high as wide, and its strides are equal."""
    options = self.op.options
    return self.op.kernel_height == self.op.kernel_width and (
        options.get('strideH') == options.get('strideW'))

  @property
  def groups(self) -> int:
    """Groups of a convolution; 1 for other ops."""
    if self.op.name != 'CONV_2D':
      return 1
    return self.input_channels // max(1, self.op.kernel.shape[-1])

  @property
  def depth_multiplier(self) -> int:
    """Results of a depthwise convolution a channel; 1 for other ops."""
    if self.op.name != 'DEPTHWISE_CONV_2D':
      return 1
    return self.op.kernel.shape[-1] // self.input_channels

  @property
  def constant_size(self) -> int:
    """Values of its largest constant, 0 without one."""
    return max((t.size for t in self.constants), default=0)

  @property
  def result_rank(self) -> int:
    """Number of dimensions of the result."""
    return len(self.op.results[0].shape)

  @property
  def lowest_rank(self) -> int:
    """Smallest number of dimensions of an operand."""
    return min(len(t.shape) for t in self.op.operands if t is not None)

  @property
  def over_space(self) -> bool:
    """Whether a reduction is that of height and width."""
    axes = self.op.operands[1].values if len(self.op.operands) > 1 else ()
    return sorted(axis % 4 for axis in axes) == [*_SPACE]


@dataclasses.dataclass(frozen=True)
class ImagePart:
  """The part of a file that computes on images.

  Attributes:
    name: What findings call it.
    ops: Its ops. A PAD is part of the convolutions that read it.
    ops_after: The ops that follow it; their images have one pixel.
    num_stored_sparsely: Kernels of the file that are stored sparsely.
  """
  ops: tuple[ImageOp, ...]
  ops_after: tuple[model_file.Op, ...]
  num_stored_sparsely: int
  name: str = 'the file'

  @property
  def zeros(self) -> float:
    """Share of zeros in the kernels of pointwise convolutions, in [0, 1]."""
    kernels = [op.weights for op in self.ops if op.name == 'CONV_2D' and
               op.weights and (op.kernel_height, op.kernel_width) == (1, 1)]
    return sum(k.zeros for k in kernels) / max(1, sum(k.size for k in kernels))


class _Graph:
  """Who writes and who reads a tensor.

  Attributes:
    outputs: Ids of the tensors that are outputs of the file.
    inputs: Ids of those that are inputs.
  """

  def __init__(self, file: model_file.ModelFile):
    self.inputs = {id(t) for t in file.inputs}
    self.outputs = {id(t) for t in file.outputs}
    self._writers = {id(t): op for op in file.ops for t in op.results}
    self._readers: Mapping[int, list] = collections.defaultdict(list)
    for op in file.ops:
      for tensor in op.operands:
        if tensor is not None:
          self._readers[id(tensor)].append(op)

  def readers(self, op: model_file.Op) -> list[model_file.Op]:
    """Returns the ops that read a result of an op."""
    return [reader for t in op.results for reader in self._readers[id(t)]]

  def stored(self, tensor: model_file.Tensor | None) -> (
      model_file.Tensor | None):
    """Returns the constant that a tensor is, or is decoded from, else None."""
    while tensor is not None and not tensor.constant:
      writer = self._writers.get(id(tensor))
      if writer is None or writer.name not in _DECODING:
        return None
      tensor = writer.operands[0]
    return tensor

  def pad_before(self, op: model_file.Op) -> model_file.Op | None:
    """Returns the PAD that a convolution takes over, if there is one."""
    if op.name not in _CONVOLUTIONS or (
        op.options['padding'] != schema.Padding.VALID):
      return None
    writer = self._writers.get(id(op.operands[0]))
    return writer if writer and self.is_taken_over(writer) else None

  def is_taken_over(self, op: model_file.Op) -> bool:
    """Whether an op is a PAD that is part of all ops that read it."""
    return op.name == 'PAD' and op.operands[1].constant and (
        id(op.results[0]) not in self.outputs) and all(
            reader.name in _CONVOLUTIONS and
            reader.options['padding'] == schema.Padding.VALID
            for reader in self.readers(op))


def find(file: model_file.ModelFile) -> ImagePart:
  """Returns the part of a file that computes on images.

  An op belongs to it if it reads or makes an image of more than one pixel, or
  if an op that does depends on it, as on those of squeeze and excitation.
  """
  graph = _Graph(file)
  members: set[int] = set()
  needed: set[int] = set()
  for op in reversed(file.ops):
    operands = [t for t in op.operands if graph.stored(t) is None]
    operands = [t for t in operands if t is not None]
    if any(map(_is_image, (*operands, *op.results))) and operands or any(
        id(t) in needed for t in op.results):
      members.add(id(op))
      needed |= {id(t) for t in operands}
  after = [op for op in file.ops
           if id(op) not in members and graph.stored(op.operands[0]) is None]
  return ImagePart(
      tuple(_image_op(op, graph, members) for op in file.ops
            if id(op) in members and not graph.is_taken_over(op)),
      tuple(after), sum(op.name == 'DENSIFY' for op in file.ops))


def _is_image(tensor: model_file.Tensor) -> bool:
  return len(tensor.shape) == 4 and (
      tensor.shape[_SPACE[0]] * tensor.shape[_SPACE[1]] > 1)


def _image_op(
    op: model_file.Op, graph: _Graph, members: set[int]) -> ImageOp:
  pad = graph.pad_before(op)
  read = {id(t) for source in (op, pad) if source for t in source.operands}
  return ImageOp(
      op, first=bool(read & graph.inputs),
      last=any(id(t) in graph.outputs for t in op.results) or any(
          id(reader) not in members for reader in graph.readers(op)),
      readers=frozenset(reader.name for reader in graph.readers(op)),
      weights=graph.stored(op.kernel),
      constants=() if op.kernel else tuple(
          t for t in map(graph.stored, op.operands) if t is not None),
      padding=_padding(op, pad.operands[1].values if pad else ()))


def _padding(
    op: model_file.Op, before: Sequence[int]
) -> tuple[int, int, int, int] | str:
  """Returns the pixels that a convolution adds, see `ImageOp`."""
  if before:
    return before[2], before[3], before[4], before[5]
  if op.name not in _CONVOLUTIONS or (
      op.options['padding'] == schema.Padding.VALID):
    return 0, 0, 0, 0
  if op.stride > 1:
    return SAME
  height, width = (op.dilation * (size - 1)
                   for size in (op.kernel_height, op.kernel_width))
  return height // 2, -(-height // 2), width // 2, -(-width // 2)
