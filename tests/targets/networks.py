"""Small networks that fulfill the conditions of sparse inference but one."""

from collections.abc import Callable
import dataclasses
import functools

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
import tf_keras

from modelgarden_opt.evaluation import inspection
from modelgarden_opt.export import convert
from modelgarden_opt.export.lowering import flatbuffer
from modelgarden_opt.export.lowering import joined_constants
from modelgarden_opt.export.lowering import pooled_head
from modelgarden_opt.export.lowering import symmetric_padding

layers = tf_keras.layers
_CHANNELS = 128


def _dense(x):
  return layers.Dense(10)(x)


def _mean(x):
  return layers.GlobalAveragePooling2D()(x)


def _stem(**options):
  return functools.partial(layers.Conv2D, **{
      'filters': 32, 'kernel_size': 3, 'strides': 2, 'padding': 'same',
      **options})()


def network(middle=None, head=None, stem=None, size=49, zeros=0.85):
  """Returns an image classifier whose pointwise kernels have zeros.

  Args:
    middle: What is done to the image of `_CHANNELS` channels in the middle.
    head: What takes the last image to the output.
    stem: The first layer.
    size: Height and width of an image; SAME is symmetric at odd ones.
    zeros: Share of zeros in the kernels of convolutions and dense layers.
  """
  tf_keras.utils.set_random_seed(0)
  image = layers.Input([size, size, 3])
  x = layers.ReLU(6)((stem or _stem())(image))
  x = layers.DepthwiseConv2D(3, padding='same', activation='relu6')(x)
  x = layers.Conv2D(_CHANNELS, 1, activation='relu6')(x)
  x = middle(x) if middle else x
  x = layers.DepthwiseConv2D(3, 2, padding='same', activation='relu6')(x)
  x = layers.Conv2D(_CHANNELS, 1)(x)
  x = head(x) if head else _dense(_mean(x))
  model = tf_keras.Model(image, x)
  for layer in model.layers:
    if isinstance(layer, (layers.Conv2D, layers.Dense)) and not isinstance(
        layer, layers.DepthwiseConv2D):
      magnitudes = np.abs(layer.kernel)
      layer.kernel.assign(np.where(
          magnitudes < np.quantile(magnitudes, zeros), 0.0, layer.kernel))
  return model


def _gate(x):
  """Squeeze and excitation with a hard sigmoid."""
  y = layers.GlobalAveragePooling2D(keepdims=True)(x)
  y = layers.Conv2D(32, 1, activation='relu')(y)
  y = layers.Conv2D(_CHANNELS, 1)(y)
  return x * (tf.nn.relu6(y + 3.0) * (1.0 / 6.0))


def _long_head(x):
  """What MobileNetV3 has after its last image."""
  x = layers.GlobalAveragePooling2D(keepdims=True)(x)
  x = layers.Conv2D(64, 1)(x)
  x = x * tf.nn.relu6(x + 3.0) / 6.0
  return _dense(_mean(x))


def _conv_head(x):
  x = layers.GlobalAveragePooling2D(keepdims=True)(x)
  return layers.Flatten()(layers.Conv2D(10, 1)(x))


def _soft_swish(x):
  return x * tf.nn.sigmoid(x)


def _image_head(x):
  return layers.Conv2D(10, 1)(x)


# Everything is computed sparsely.
GOOD = {
    'plain': network,
    'squeeze and excitation': lambda: network(_gate),
    'head of four dimensions': lambda: network(
        head=lambda x: _dense(layers.Flatten()(tf.nn.tanh(
            layers.GlobalAveragePooling2D(keepdims=True)(x))))),
    'convolution as head': lambda: network(head=_conv_head),
    'long head': lambda: network(head=_long_head),
    'sigmoid-swish': lambda: network(_soft_swish),
    'hard-swish': lambda: network(
        lambda x: x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0)),
    '5x5': lambda: network(
        layers.DepthwiseConv2D(5, 2, padding='same'), size=97),
    'swish in the gate': lambda: network(
        lambda x: x + tf.nn.tanh(layers.Conv2D(_CHANNELS, 1)(_soft_swish(
            layers.Conv2D(32, 1)(layers.GlobalAveragePooling2D(
                keepdims=True)(x)))))),
    'a gate a pixel': lambda: network(
        lambda x: x * tf.nn.sigmoid(layers.Conv2D(1, 1)(x))),
    'head of several layers': lambda: network(
        head=lambda x: _dense(tf.nn.tanh(layers.Dense(20)(_mean(x))))),
    'residual': lambda: network(
        lambda x: x + layers.Conv2D(_CHANNELS, 1)(x)),
    'explicit padding at an even size': lambda: network(
        stem=tf_keras.Sequential([
            layers.ZeroPadding2D(1), _stem(padding='valid')]),
        middle=lambda x: layers.DepthwiseConv2D(3, 2)(
            layers.ZeroPadding2D(1)(x)), size=98),
}


@dataclasses.dataclass(frozen=True)
class Damage:
  """A condition that a file breaks.

  Attributes:
    reason: What is said of it.
    make: Makes the network.
    without: Passes of `convert` that are left out.
    further: Passes that follow.
    effect: What happens where sparse kernels run: the file runs `dense`, does
      not `load`, or gives `wrong` outputs.
  """
  reason: str
  make: Callable[[], tf_keras.Model] = network
  without: tuple[Callable, ...] = ()
  further: tuple[Callable, ...] = ()
  effect: str = 'dense'

  def content(self, monkeypatch, sparse=True) -> bytes:
    """Returns the file; with `sparse=False` the dense one beside it."""
    with monkeypatch.context() as patch:
      patch.setattr(convert, '_FOR_SPARSE_INFERENCE', (
          *(p for p in convert._FOR_SPARSE_INFERENCE if p not in self.without),
          *self.further))
      return convert.convert(self.make(), 'float32', sparse=sparse)


def _store_densely(model):
  """Stores the kernels with all their zeros, as without `--sparse`."""
  codes = flatbuffer.op_codes(model)
  graph, = model.subgraphs
  for op in list(graph.operators):
    if codes[op.opcodeIndex] != schema.BuiltinOperator.DENSIFY:
      continue
    stored, kernel = (graph.tensors[i] for i in (*op.inputs, *op.outputs))
    values = np.frombuffer(
        np.asarray(model.buffers[stored.buffer].data, np.uint8), np.float32)
    kernel.buffer = flatbuffer.add_buffer(model, inspection._densify(
        values, tuple(stored.shape), stored.sparsity).tobytes())
    graph.operators.remove(op)


def _middle(reason, layer):
  return Damage(reason, lambda: network(layer))


DAMAGED = {
    'dense': Damage(
        'no kernel is stored sparsely', further=(_store_densely,)),
    'few zeros': Damage('two thirds or fewer', lambda: network(zeros=0.64)),
    'SAME': Damage('has SAME padding with a stride',
                   without=(symmetric_padding.split,)),
    'even size': Damage('is first and has SAME padding with a stride',
                        lambda: network(size=48)),
    'scalars': Damage('fewer than four dimensions', lambda: network(_gate),
                      without=(joined_constants.expand,)),
    'a constant a channel': Damage(
        'takes the wrong ones', lambda: network(lambda x: (
            tf.nn.tanh(x) + np.linspace(0, 1, _CHANNELS, dtype='f'))),
        effect='wrong'),
    'convolution after the mean': Damage(
        'keeps four dimensions',
        lambda: network(head=_conv_head), without=(pooled_head.lower,),
        effect='load'),
    'stem of 5x5': Damage('other than 3x3 pixels',
                          lambda: network(stem=_stem(kernel_size=5))),
    'stem without stride': Damage('another stride than 2', lambda: network(
        stem=_stem(strides=1), size=25)),
    'stem without padding': Damage(
        'one pixel of padding on every side',
        lambda: network(stem=_stem(padding='valid'))),
    'pointwise stem': Damage('other than 3x3 pixels', lambda: network(
        stem=_stem(kernel_size=1, strides=1), size=25)),
    'depthwise stem': Damage('is first, where', lambda: network(
        stem=layers.DepthwiseConv2D(3, 2, padding='same',
                                    depth_multiplier=8))),
    'wide convolution': _middle('is no pointwise one', layers.Conv2D(
        _CHANNELS, 3, padding='same')),
    'strided pointwise': _middle('is pointwise and has a stride',
                                 layers.Conv2D(_CHANNELS, 1, 2)),
    'groups': _middle('has groups', layers.Conv2D(_CHANNELS, 1, groups=4)),
    'dilated': _middle('is dilated', layers.DepthwiseConv2D(
        3, padding='same', dilation_rate=2)),
    'depth multiplier': _middle('several channels', layers.DepthwiseConv2D(
        3, padding='same', depth_multiplier=2)),
    '7x7': _middle('3x3 or 5x5', layers.DepthwiseConv2D(7, padding='same')),
    '3x5': _middle('is not square',
                   layers.DepthwiseConv2D((3, 5), padding='same')),
    'no padding': _middle('half its kernel', layers.DepthwiseConv2D(3)),
    'no padding of 5x5': _middle('half its kernel', layers.DepthwiseConv2D(5)),
    'stride of 3': Damage('stride above 2', lambda: network(
        layers.DepthwiseConv2D(3, 3, padding='same'), size=107)),
    'pooling inside': _middle('no sparse counterpart',
                              layers.MaxPooling2D(2, 1, 'same')),
    'concatenation': _middle('no sparse counterpart', lambda x: tf.concat(
        [x, tf.nn.tanh(x)], -1)),
    'subtraction': _middle('no sparse counterpart',
                           lambda x: x - tf.nn.sigmoid(x)),
    'average pooling at the end': Damage(
        'as a mean over space does', lambda: network(head=lambda x: _dense(
            layers.Flatten()(layers.AveragePooling2D(13)(x))))),
    'no mean at the end': Damage('no sparse counterpart', lambda: network(
        head=lambda x: _dense(layers.Flatten()(x)))),
    'an image at the end': Damage(
        'where a mean over space has to be',
        lambda: network(head=_image_head)),
    'mean over height': Damage('other axes', lambda: network(
        head=lambda x: _dense(layers.Flatten()(tf.reduce_mean(x, 1)))),
        effect='wrong'),
    'mean over height, then width': Damage('other axes', lambda: network(
        head=lambda x: _dense(layers.Flatten()(tf.reduce_mean(
            tf.reduce_mean(x, 1, keepdims=True), 2)))), effect='load'),
    'mean in a product': Damage(
        'other than a pointwise convolution', lambda: network(
            lambda x: x * tf.nn.sigmoid(tf.reduce_mean(
                x, [1, 2], keepdims=True))), effect='load'),
    'mean before an activation': Damage(
        'other than a pointwise convolution', lambda: network(
            lambda x: x * layers.Conv2D(_CHANNELS, 1)(tf.nn.sigmoid(
                tf.reduce_mean(x, [1, 2], keepdims=True)))), effect='wrong'),
    'head of four dimensions': Damage(
        'keeps four dimensions', lambda: network(
            head=lambda x: _dense(layers.Flatten()(tf.nn.tanh(
                tf.reduce_mean(x, [1, 2], keepdims=True))))),
        without=(pooled_head.lower,), effect='load'),
    'a constant a channel of four dimensions': Damage(
        'takes the wrong ones', lambda: network(lambda x: (
            tf.nn.tanh(x) + np.linspace(0, 1, _CHANNELS, dtype='f').reshape(
                1, 1, 1, _CHANNELS))), effect='wrong'),
}
