"""The distribution strategy that a `runtime:` block describes."""

from official.common import distribute_utils
from official.core import config_definitions as cfg
import tensorflow as tf

from modelgarden_opt import errors


def get_strategy(params: cfg.ExperimentConfig) -> tf.distribute.Strategy:
  """Returns the strategy under which a model is built and trained.

  Args:
    params: The resolved configuration.

  Raises:
    UsageError: If this process has already started with fewer logical CPUs.
  """
  runtime = params.runtime
  name = runtime.distribution_strategy
  # The Model Garden swaps moving averages in under a strategy only.
  if name == 'off' and params.trainer.optimizer_config.ema:
    name = 'one_device'
  if getattr(runtime, 'num_logical_cpus', 1) > 1:
    return tf.distribute.MirroredStrategy(
        _logical_cpus(runtime.num_logical_cpus))
  return distribute_utils.get_distribution_strategy(
      distribution_strategy=name,
      all_reduce_alg=runtime.all_reduce_alg,
      num_gpus=runtime.num_gpus,
      num_packs=runtime.num_packs,
      tpu_address=runtime.tpu)


def _logical_cpus(count: int) -> list[str]:
  """Returns the names of logical CPUs, which are made if there are too few."""
  cpu, = tf.config.list_physical_devices('CPU')
  made = tf.config.get_logical_device_configuration(cpu) or ()
  if len(made) < count:
    try:
      tf.config.set_logical_device_configuration(
          cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
      raise errors.UsageError(
          f'runtime.num_logical_cpus: this process has {max(1, len(made))}, '
          f'received {count}; TensorFlow makes them when it starts') from None
  return [f'CPU:{index}' for index in range(count)]
