"""What has to be known of a layer's inputs to judge any change of its kernel.

A convolution is a product of patches and its kernel as a matrix, so the mean
squared error of its output is a quadratic function of the kernel, and second
moments of patches are all that it depends on: no activation is kept.
"""

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import leaves


class Moments:
  """Second moments of what a layer reads, quantized and in float.

  Kernels are seen as [groups, inputs, outputs]: every channel of a depthwise
  convolution is a group, other layers have one.

  Attributes:
    of_quantized: float64 [groups, inputs, inputs], the sum over all patches of
      the products of quantized inputs.
    of_both: Of the products of quantized inputs (rows) and float ones.
  """

  def __init__(self, layer: leaves.Rewired):
    """Begins with none.

    Args:
      layer: A built convolution without groups, depthwise convolution or dense
        layer.
    """
    self._layer = layer
    self.of_quantized = self.of_both = 0.0

  def add(self, quantized: tf.Tensor, floats: tf.Tensor) -> None:
    """Adds the inputs of a batch.

    Args:
      quantized: What the layer reads in the quantized model.
      floats: What it reads in the float model, of the same shape.
    """
    rows, columns = self._patches(quantized), self._patches(floats)
    self.of_quantized += _products(rows, rows)
    self.of_both += _products(rows, columns)

  def _patches(self, inputs: tf.Tensor) -> tf.Tensor:
    """Returns inputs as [groups, patches, inputs]."""
    layer = self._layer
    kernel = layer.kernel_variable
    if layer.layer_type == 'Dense':
      return tf.reshape(inputs, [1, -1, kernel.shape[0]])
    height, width, channels = kernel.shape[:3]
    patches, padding = layer.padded(inputs)
    if (height, width) != (1, 1) or tuple(layer.strides) != (1, 1):
      patches = tf.image.extract_patches(
          patches, [1, height, width, 1], [1, *layer.strides, 1],
          [1, *layer.dilation_rate, 1], padding.upper())
    if layer.layer_type == 'Conv2D':
      return tf.reshape(patches, [1, -1, height * width * channels])
    return tf.transpose(
        tf.reshape(patches, [-1, height * width, channels]), [2, 0, 1])


def _products(rows: tf.Tensor, columns: tf.Tensor) -> np.ndarray:
  return tf.matmul(rows, columns, transpose_a=True).numpy().astype(np.float64)


def supports(layer: tf_keras.layers.Layer) -> bool:
  """Whether a layer's output is what `Moments` takes it for."""
  return getattr(layer, 'groups', 1) == 1 and getattr(
      layer, 'data_format', 'channels_last') == 'channels_last'


def as_matrices(kernel: np.ndarray, layer_type: str) -> np.ndarray:
  """Returns a kernel as [groups, inputs, outputs].

  Args:
    kernel: Of a convolution [h, w, in, out], a depthwise one [h, w, in,
      multiplier], or a dense layer [in, out].
    layer_type: Class name of its float layer.
  """
  if layer_type != 'DepthwiseConv2D':
    return kernel.reshape([1, -1, kernel.shape[-1]])
  height, width, channels, multiplier = kernel.shape
  return kernel.reshape(
      [height * width, channels, multiplier]).transpose([1, 0, 2])


def as_kernel(
    matrices: np.ndarray, shape: tuple[int, ...], layer_type: str
) -> np.ndarray:
  """Returns [groups, inputs, outputs] as a kernel of a shape again."""
  if layer_type == 'DepthwiseConv2D':
    matrices = matrices.transpose([1, 0, 2])
  return matrices.reshape(shape)
