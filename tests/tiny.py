"""A MobileNet of five blocks on 32-pixel digits: a step takes milliseconds.

Imported for its side effect (the model gets a name that YAML files can use)
and for its values; the processes that tests start import it, too.
"""

from official.vision.modeling.backbones import efficientnet
from official.vision.modeling.backbones import mobilenet
import tensorflow as tf
import tf_keras

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
