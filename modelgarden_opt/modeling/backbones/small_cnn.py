"""The small CNN of the published PQAT, CQAT and PCQAT studies, as a backbone.

One convolution with a ReLU and a max pooling; the classifier reads the
flattened features. Source: TensorFlow Model Optimization guide, "Sparsity
preserving quantization aware training (PQAT) Keras example".
"""

from official.modeling import hyperparams
from official.vision.modeling.backbones import factory
import tf_keras


class SmallCnn(tf_keras.Model):
  """Convolution, ReLU, max pooling; its endpoint is [b, 1, 1, features]."""

  def __init__(self, input_specs, filters: int, kernel_size: int, **kwargs):
    """Initializes the backbone.

    Args:
      input_specs: `InputSpec` of shape [b, height, width, channels].
      filters: Filters of the convolution.
      kernel_size: Height and width of its kernel.
      **kwargs: Further arguments of `tf_keras.Model`.
    """
    inputs = tf_keras.Input(input_specs.shape[1:])
    x = tf_keras.layers.Conv2D(filters, kernel_size)(inputs)
    x = tf_keras.layers.Activation('relu')(x)
    x = tf_keras.layers.MaxPooling2D()(x)
    # Flattened, in the shape that classification models pool: to no effect.
    size = x.shape[1] * x.shape[2] * x.shape[3]
    x = tf_keras.layers.Reshape([1, 1, size])(x)
    self._options = {'filters': filters, 'kernel_size': kernel_size}
    self.output_specs = {'1': x.shape}
    super().__init__(inputs=inputs, outputs={'1': x}, **kwargs)

  def get_config(self):
    return dict(self._options)


@factory.register_backbone_builder('small_cnn')
def build_small_cnn(
    input_specs: tf_keras.layers.InputSpec,
    backbone_config: hyperparams.Config,
    norm_activation_config: hyperparams.Config,
    l2_regularizer: tf_keras.regularizers.Regularizer | None = None,
) -> tf_keras.Model:
  """Returns the backbone that `backbone.small_cnn` describes."""
  del norm_activation_config, l2_regularizer  # It has no norm to configure.
  config = backbone_config.get()
  return SmallCnn(input_specs, config.filters, config.kernel_size)
