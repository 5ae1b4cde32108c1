"""What a user's module holds: a model, a backbone, a schedule, a cost."""

import dataclasses

from official.modeling import hyperparams
from official.vision.modeling.backbones import factory
import tf_keras

from modelgarden_opt.compression.pruning import schedules
from modelgarden_opt.configs import image_classification
from modelgarden_opt.modeling.backbones import small_cnn

layers = tf_keras.layers


def two_branches(size=32, filters=8, num_classes=10, head='logits'):
  """Two branches that are concatenated; with a softmax, logits, or no head."""
  image = tf_keras.Input([size, size, 3])
  fine = layers.Conv2D(filters, 3, 2, 'same', activation='relu')(image)
  coarse = layers.Conv2D(filters, 5, 2, 'same', use_bias=False)(image)
  coarse = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(coarse))
  x = layers.Concatenate()([fine, coarse])
  x = layers.Conv2D(2 * filters, 3, 2, 'same', activation='relu')(x)
  if head == 'none':
    return tf_keras.Model(image, x)
  x = layers.GlobalAveragePooling2D()(x)
  activation = 'softmax' if head == 'softmax' else None
  return tf_keras.Model(image, layers.Dense(num_classes, activation)(x))


def fails():
  """Has a mistake of its own."""
  return {}['no_such']


def not_a_model():
  return 'a model'


@image_classification.BACKBONES.register('registered')
@dataclasses.dataclass
class Registered(hyperparams.Config):
  """The fields of a backbone that this module registers."""
  filters: int = 4


@factory.register_backbone_builder('registered')
def _build(input_specs, backbone_config, norm_activation_config,
           l2_regularizer=None):
  return small_cnn.SmallCnn(input_specs, backbone_config.get().filters, 3)


@schedules.SCHEDULES.register('AllAtOnce')
def _all_at_once(step, begin_step, end_step, initial_sparsity, final_sparsity,
                 power):
  return final_sparsity


def with_elu():
  image = tf_keras.Input([32, 32, 3])
  x = layers.Conv2D(4, 3)(image)
  return tf_keras.Model(image, layers.ELU()(x))
