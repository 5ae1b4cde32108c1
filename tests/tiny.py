"""A MobileNet of five blocks on 32-pixel digits: a step takes milliseconds.

Imported for its side effect (the model gets a name that YAML files can use)
and for its values; the processes that tests start import it, too.
"""

from official.vision.modeling.backbones import efficientnet
from official.vision.modeling.backbones import mobilenet
from official.vision.modeling.backbones import resnet
import tensorflow as tf
import tf_keras

from modelgarden_opt.data import scenes
from modelgarden_opt.modeling.backbones import relu_mobilenets

# A tenth of the scenes that a user gets: drawing all of them takes 25 s.
scenes.NUM_SCENES.update(train=240, validation=40, test=40)
mobilenet.SUPPORTED_SPECS_MAP['Tiny'] = {
    'spec_name': 'Tiny',
    'block_spec_schema': ['block_fn', 'kernel_size', 'strides', 'filters',
                          'expand_ratio', 'is_output'],
    'block_specs': [
        ('convbn', 3, 2, 16, None, False),
        ('invertedbottleneck', 3, 1, 16, 1.0, False),
        ('invertedbottleneck', 3, 2, 24, 3.0, False),
        ('invertedbottleneck', 3, 1, 24, 3.0, True),
        ('convbn', 1, 1, 64, None, False),
    ],
}

# What is left when every kind of op is there once: for tests that trace much.
mobilenet.SUPPORTED_SPECS_MAP['Tiniest'] = {
    **mobilenet.SUPPORTED_SPECS_MAP['Tiny'],
    'spec_name': 'Tiniest',
    'block_specs': [
        ('convbn', 3, 2, 16, None, False),
        ('invertedbottleneck', 3, 1, 16, 3.0, True),
        ('convbn', 1, 1, 64, None, False),
    ],
}
relu_mobilenets.with_relu('Tiny')


def _shorten(name: str, rows: tuple[int, ...]) -> str:
  """Registers some of the blocks of a MobileNet; returns the model's name."""
  whole = mobilenet.SUPPORTED_SPECS_MAP[name]
  short = f'Short{name}'
  mobilenet.SUPPORTED_SPECS_MAP[short] = {
      **whole, 'spec_name': short,
      'block_specs': [whole['block_specs'][row] for row in rows]}
  return short


resnet.RESNET_SPECS[9] = [('residual', 64, 2), ('residual', 128, 1)]
# Backbones with every kind of block of a family, each kind about once.
SHORT = {
    'mobilenet_v2': {'model_id': _shorten('MobileNetV2', (0, 1, 2, 3, -1))},
    'mobilenet_v3_small': {'model_id': _shorten(
        'MobileNetV3Small', (0, 1, 2, 3, 4, 5, -3, -2, -1))},
    'mobilenet_v4_conv_small': {'model_id': _shorten(
        'MobileNetV4ConvSmall', (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, -3, -2, -1))},
    'resnet18': {'model_id': 9},
}
# An EfficientNet of one block a group.
efficientnet.SCALING_MAP['tiny'] = {'width_scale': 0.25, 'depth_scale': 0.25}

_DATA = {'embedded_name': 'digits', 'aug_crop': False}

OVERRIDES = {
    'runtime': {'distribution_strategy': 'off'},
    'task': {
        'model': {
            'num_classes': 10,
            'input_size': [32, 32, 3],
            'backbone': {'mobilenet': {'model_id': 'Tiny'}},
            'norm_activation': {'norm_momentum': 0.9},
        },
        'train_data': {
            **_DATA, 'embedded_split': 'train', 'global_batch_size': 32,
            'aug_rand_hflip': False, 'seed': 7, 'shuffle_buffer_size': 64,
            'deterministic': True, 'cycle_length': 1},
        'validation_data': {
            **_DATA, 'embedded_split': 'validation', 'global_batch_size': 60,
            'drop_remainder': False},
        'test_data': {
            **_DATA, 'embedded_split': 'test', 'global_batch_size': 60,
            'drop_remainder': False, 'is_training': False},
    },
    'trainer': {
        'train_steps': 120, 'steps_per_loop': 60, 'summary_interval': 60,
        'checkpoint_interval': 60, 'validation_interval': 60,
        'optimizer_config': {
            'optimizer': {'type': 'adam'},
            'learning_rate': {
                'type': 'constant', 'constant': {'learning_rate': 0.003}},
            'warmup': {'type': None},
        },
    },
}


def overrides(data_dir: str) -> dict:
  """Returns the overrides with the embedded data below `data_dir`."""
  task = dict(OVERRIDES['task'])
  for name in ('train_data', 'validation_data', 'test_data'):
    task[name] = {**task[name], 'embedded_dir': data_dir}
  return {**OVERRIDES, 'task': task}


def train(task, model, steps, learning_rate):
  """Takes a few Adam steps on a task's training data; returns the loss."""
  optimizer = tf_keras.optimizers.Adam(learning_rate)
  step = tf.function(lambda x, y: task.train_step((x, y), model, optimizer))
  for images, labels in task.build_inputs(
      task.task_config.train_data).take(steps):
    logs = step(images, labels)
  return float(logs[task.loss])
