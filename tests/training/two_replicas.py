"""Trains the tiny quantized model on two logical devices (a process of its own,
because devices are configured before TensorFlow starts)."""

import sys

import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0],
    [tf.config.LogicalDeviceConfiguration()] * 2)

from official.common import distribute_utils

from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.configs import overrides
from modelgarden_opt.training import metrics
from modelgarden_opt.training import run as run_lib
from tests import tiny


def main(float_run: str, model_dir: str, data_dir: str) -> None:
  distribute_utils.get_distribution_strategy = lambda **_: (
      tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1']))
  config = overrides.base('mobilenet_v2_qat')
  config.task.name = 'mobilenet_v2_qat'
  config.override(tiny.overrides(data_dir))
  config.override({
      'task': {'quantization': {'pretrained_original_checkpoint': float_run,
                                'calibration_steps': 2}},
      'trainer': {'train_steps': 60, 'optimizer_config': {'learning_rate': {
          'constant': {'learning_rate': 0.0003}}}}})
  run_lib.run_experiment(config, 'train_and_eval', model_dir)
  records = metrics.read(model_dir)
  assert records[-1]['accuracy'] > 0.7, records


if __name__ == '__main__':
  main(*sys.argv[1:])
