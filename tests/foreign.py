"""`.tflite` files that this project did not write, each odd in one way."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

SIZE, CLASSES = 32, 10


def _spec(*shape: int, dtype=tf.float32) -> tf.TensorSpec:
  return tf.TensorSpec(shape, dtype)


def convert(function: Callable, *specs: tf.TensorSpec) -> bytes:
  """Returns a function of tensors as a file."""
  concrete = tf.function(function).get_concrete_function(*specs)
  return tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()


def _kernel(channels: int = 3) -> tf.Tensor:
  rng = np.random.default_rng(0)
  return tf.constant(rng.normal(size=[3, 3, channels, CLASSES]), tf.float32)


def _classify(images: tf.Tensor, channels: int = 3) -> tf.Tensor:
  maps = tf.nn.conv2d(images, _kernel(channels), 2, 'SAME')
  return tf.reduce_mean(tf.nn.relu(maps), [1, 2])


def plain(batch: int = 1, channels: int = 3) -> bytes:
  """A classifier of `CLASSES` classes."""
  return convert(lambda x: _classify(x, channels),
                 _spec(batch, SIZE, SIZE, channels))


def two_inputs() -> bytes:
  return convert(lambda x, scale: _classify(x) * scale,
                 _spec(1, SIZE, SIZE, 3), _spec(1, CLASSES))


def integers_without_scale() -> bytes:
  return convert(lambda x: _classify(tf.cast(x, tf.float32) / 255.0),
                 _spec(1, SIZE, SIZE, 3, dtype=tf.uint8))


def channels_first() -> bytes:
  return convert(lambda x: _classify(tf.transpose(x, [0, 2, 3, 1])),
                 _spec(1, 3, SIZE, SIZE))


def scalar_output() -> bytes:
  return convert(lambda x: tf.reduce_sum(_classify(x)),
                 _spec(1, SIZE, SIZE, 3))


def endless() -> bytes:
  """Whose WHILE ends for no image that there is."""
  def run(x):
    steps = tf.while_loop(
        lambda i: tf.reduce_sum(tf.abs(x)) >= i * 0.0, lambda i: [i + 1.0],
        [tf.constant(0.0)])
    return _classify(x) + steps
  return convert(run, _spec(1, SIZE, SIZE, 3))


ODD = {
    'two_inputs': two_inputs,
    'integers_without_scale': integers_without_scale,
    'batch_of_4': lambda: plain(batch=4),
    'grey': lambda: plain(channels=1),
    'channels_first': channels_first,
    'scalar_output': scalar_output,
    'endless': endless,
}


def damaged(content: bytes) -> dict[str, bytes]:
  """Returns parts of a file, and bytes that are none, by name."""
  rng = np.random.default_rng(0)
  noise = bytes(rng.integers(0, 256, 2000, np.uint8))
  scrambled = np.frombuffer(content, np.uint8).copy()
  scrambled[8:] = rng.permutation(scrambled[8:])
  return {
      'empty': b'', 'random': noise,
      'random_with_identifier': noise[:4] + b'TFL3' + noise[8:],
      'scrambled': scrambled.tobytes(),
      **{f'first_{share:.0%}': content[:int(share * len(content))]
         for share in (0.3, 0.6, 0.9, 0.99)}}
