"""Measures the statistics of batch normalization again."""

from collections.abc import Iterable

from absl import logging
import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import internals
from modelgarden_opt.modeling import observing


def adopt(model: tf_keras.Model, images: tf.Tensor) -> None:
  """Sets moving means and variances to those of one batch.

  Any model will do, also one whose layers were not rewired. For models with
  random weights that are to be converted or timed: with the statistics of
  initialization the activations of a deep model vanish.

  Args:
    model: The model.
    images: Images [b, height, width, channels].
  """
  norms = [layer for layer in internals.layers_of(model)
           if isinstance(layer, tf_keras.layers.BatchNormalization)]
  momentum = [norm.momentum for norm in norms]
  for norm in norms:
    norm.momentum = 0.0
  model(images, training=True)
  for norm, previous in zip(norms, momentum):
    norm.momentum = previous


def reestimate(model: tf_keras.Model, batches: Iterable[tf.Tensor]) -> None:
  """Sets moving means and variances to the mean over batches.

  Pruning changes what every layer reads, and moving averages follow slowly.
  Meanwhile every layer is normalized by the statistics of the batch, as in
  training. Source: Wu & Johnson, "Rethinking 'Batch' in BatchNorm",
  arXiv:2105.07576, section 3.

  Args:
    model: A model whose layers were rewired.
    batches: Images [b, height, width, channels].

  Raises:
    ValueError: If there is no batch.
  """
  norms = [layer for layer in internals.layers_of(model)
           if isinstance(layer, tf_keras.layers.BatchNormalization)
           and layer.built]
  means = {id(layer): [] for layer in norms}
  variances = {id(layer): [] for layer in norms}

  def normalize(layer, _, x, *unused_args, **unused_kwargs):
    # Statistics are float32 whatever the type of the activations.
    values = tf.cast(x, tf.float32)
    mean, variance = tf.nn.moments(
        values, [i for i in range(x.shape.rank) if i not in layer.axis],
        keepdims=True)
    count = int(np.prod(x.shape)) // int(np.prod(mean.shape))
    shape = layer.moving_mean.shape
    means[id(layer)].append(mean.numpy().reshape(shape))
    variances[id(layer)].append(
        variance.numpy().reshape(shape) * count / max(count - 1, 1))
    outputs = tf.nn.batch_normalization(
        values, mean, variance, *(
            weight if weight is None else tf.reshape(
                tf.cast(weight, tf.float32), mean.shape)
            for weight in (layer.beta, layer.gamma)), layer.epsilon)
    return tf.cast(outputs, x.dtype)

  num_batches = 0
  with observing.calls(norms, normalize):
    for images in batches:
      model(images, training=False)
      num_batches += 1
  if not num_batches:
    raise ValueError('there is no data to estimate batch normalization from')
  for layer in norms:
    # A block may have sub-layers that its options never call.
    if means[id(layer)]:
      layer.moving_mean.assign(np.mean(means[id(layer)], axis=0))
      layer.moving_variance.assign(np.mean(variances[id(layer)], axis=0))
  logging.info('Estimated %d batch normalizations on %d batches.',
               len(norms), num_batches)
