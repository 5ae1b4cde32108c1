"""Whether a file holds the zeros and the clusters that its model has."""

import collections
from collections.abc import Sequence
import contextlib

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import transforms
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import constraints

# TFLite's layout of a kernel, by layer type.
_LAYOUT = {
    'Conv2D': lambda k: np.moveaxis(k, -1, 0),
    'DepthwiseConv2D': lambda k: k.reshape(1, *k.shape[:2], -1),
    'Dense': np.transpose,
}


def problems(
    model: tf_keras.Model,
    kernels: Sequence[inspection.Kernel],
    quantized: bool,
    variables: Sequence[tf.Variable] = (),
) -> list[str]:
  """Returns one line for every kernel of a file that lost zeros or clusters.

  A file does not name layers, so each of its kernels is compared with the
  kernel of equal shape that fits it best.

  Args:
    model: The model that the file was converted from.
    kernels: What `inspection.kernels` found in the file.
    quantized: Whether the file holds the integers of the model's quantizers,
      of which those of 4 bits round more weights to zero than a mask has. They
      count up to the sign of their channel, see `_signed_as`. Into floats the
      converter multiplies the scale of the batch norm, so that weights are
      shared within an output channel only.
    variables: The variables that the file's output depends on; the kernels
      among them have to be in it.
  """
  needed = {variable.ref() for variable in variables}
  expected = collections.defaultdict(list)
  for layer in internals.layers_of(model):
    if isinstance(layer, leaves.Rewired) and layer.chain is not None:
      kind = rules.float_type(layer)
      if kind not in _LAYOUT:  # By a recipe, whose file may be of any ops.
        continue
      values = _LAYOUT[kind](_kernel(layer, quantized))
      expected[_shape(values)].append((layer, values))
  found = collections.defaultdict(list)
  for kernel in kernels:
    found[_shape(kernel.values)].append(kernel)
  lines = []
  if not expected.keys() & found.keys():
    lines.append('no kernel of the file has the shape of one of the model')
  for shape, items in expected.items():
    # Where rules exclude some kernels of a shape, they cannot be distinguished.
    if all(_constrained(layer) for layer, _ in items):
      lines += _compare(items, found[shape], quantized)
    paths = [layer.path for layer, _ in items
             if layer.kernel_variable.ref() in needed]
    if len(found[shape]) < len(paths):
      lines.append(f'of {len(paths)} kernels of shape {items[0][1].shape} '
                   f'({", ".join(paths[:3])}, ...) the file holds '
                   f'{len(found[shape])}')
  return lines


def _kernel(layer: leaves.Rewired, quantized: bool) -> np.ndarray:
  """Returns the kernel of a layer as the file holds it."""
  kernel = layer.kernel_variable
  with contextlib.ExitStack() as stack:
    if quantized:
      stack.enter_context(
          calibration.quantizer_mode(layer, calibration.Mode.EXPORT))
      kernel = layer.chain(tf.convert_to_tensor(kernel), training=False)
    return kernel.numpy()


def _shape(kernel: np.ndarray) -> tuple[int, ...]:
  """Returns the shape of a kernel in TFLite's layout, [out, in] if pointwise.

  A pointwise convolution may be FULLY_CONNECTED in a file, see `lowering`.
  """
  shape = kernel.shape
  pointwise = len(shape) == 4 and shape[1:3] == (1, 1)
  return (shape[0], shape[3]) if pointwise else shape


def _constrained(layer: leaves.Rewired) -> bool:
  return any(transform.shows_in_files for transform in layer.chain)


def _compare(
    items, kernels: Sequence[inspection.Kernel], quantized: bool
) -> list[str]:
  """Finds a kernel of the model for every kernel of a file, all of one shape.

  Some of the model's may be left over: its outputs do not depend on them. One
  of the file that equals another is of the same layer, which is called several
  times, or has lost no more than that one.
  """
  lines, compared = [], []
  # Those with most values first, each to the one with fewest that it may be of.
  left = sorted(items, key=lambda item: len(np.unique(item[1])))
  for kernel in sorted(kernels, key=lambda kernel: -kernel.distinct):
    if any(np.array_equal(kernel.values, other) for other in compared):
      continue
    compared.append(kernel.values)
    losses = [_losses(*item, kernel, quantized) for item in left]
    if not losses:
      return [*lines, f'{kernel.name}: the model has fewer such kernels']
    best = min(range(len(left)), key=lambda index: len(losses[index]))
    lines += losses[best]
    del left[best]
  return lines


def _losses(
    layer: leaves.Rewired,
    values: np.ndarray,
    kernel: inspection.Kernel,
    quantized: bool,
) -> list[str]:
  """Returns what a kernel lost if a file's kernel came of it."""
  lines = []
  before, after = int(np.sum(values == 0)), int(np.sum(kernel.values == 0))
  if abs(after - before) > 1:
    lines.append(f'{layer.path}: {before} zeros became {after}')
  distinct = len(np.unique(_signed_as(values, kernel))) if quantized else (
      kernel.distinct_per_channel)
  if _shared(layer.chain) and distinct > len(np.unique(values)):
    lines.append(f'{layer.path}: {len(np.unique(values))} distinct values '
                 f'became {distinct}')
  return lines


def _signed_as(values: np.ndarray, kernel: inspection.Kernel) -> np.ndarray:
  """Returns a file's integers [channels, weights] with a model's signs.

  The scales of a file are positive. Where batch norm multiplies a channel by a
  negative number, the converter negates the integers of that channel: a file
  may hold the negatives of clusters, too.

  Args:
    values: The model's kernel, in the layout of the file's but for axes of
      size one.
    kernel: The file's kernel.
  """
  integers, expected = (
      np.moveaxis(a.reshape(kernel.values.shape), kernel.channel_axis, 0)
      .reshape(kernel.values.shape[kernel.channel_axis], -1).astype(np.float64)
      for a in (kernel.values, values))
  negated = np.sum(integers * expected, axis=1, keepdims=True) < 0
  return np.where(negated, -integers, integers)


def _shared(chain: transforms.TransformChain) -> bool:
  return any(transform.shares_values for transform in chain)


def claimed(model: tf_keras.Model, file_format: str, quantized: bool) -> bool:
  """Whether files of a format keep the zeros and clusters of a model.

  Post-training quantization rounds to zero and takes clusters apart; trained
  quantization and files of floats do not.

  Args:
    model: The model.
    file_format: Key of `formats.FORMATS`.
    quantized: Whether the file has the quantizers' trained ranges.
  """
  return any(item.transform.shows_in_files for item in constraints.find(
      model)) and (quantized or file_format in ('float32', 'float16'))
