"""The distribution strategy that a `runtime:` block describes."""

import functools
import json
import os

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
  count = getattr(runtime, 'num_logical_cpus', 1)
  if count > 1:
    make_logical_cpus(count)
    return _of_logical_cpus(count)
  return _strategy(name, runtime.all_reduce_alg, runtime.num_gpus,
                   runtime.num_packs, runtime.tpu)


@functools.cache
def _of_logical_cpus(count: int) -> tf.distribute.Strategy:
  """Returns the strategy of so many logical CPUs, see `_strategy`."""
  return tf.distribute.MirroredStrategy(
      [f'CPU:{index}' for index in range(count)])


@functools.cache
def _strategy(
    name: str,
    all_reduce_alg: str | None,
    num_gpus: int,
    num_packs: int,
    tpu: str | None,
) -> tf.distribute.Strategy:
  """Returns the strategy of one kind: in a process there is one of each.

  A second one would number its collective ops from the beginning, and
  TensorFlow would take them for those of the first.
  """
  there = len(tf.config.list_physical_devices('GPU'))
  if num_gpus > there:
    raise errors.UsageError(
        f'runtime.num_gpus: this machine has {there}, received {num_gpus}')
  try:
    return distribute_utils.get_distribution_strategy(
        distribution_strategy=name, all_reduce_alg=all_reduce_alg,
        num_gpus=num_gpus, num_packs=num_packs, tpu_address=tpu)
  except (ValueError, KeyError, RuntimeError, tf.errors.OpError) as e:
    raise errors.UsageError(
        f'runtime.distribution_strategy: {name!r} cannot be started: '
        f'{" ".join(errors.of_op(e).split())[:300]}') from None


def is_chief() -> bool:
  """Whether this process writes the run: of several workers, one does."""
  config = json.loads(os.environ.get('TF_CONFIG') or '{}')
  task, cluster = config.get('task', {}), config.get('cluster', {})
  kind, index = task.get('type', 'chief'), int(task.get('index', 0))
  return kind == 'chief' or (
      kind == 'worker' and index == 0 and 'chief' not in cluster)


def make_logical_cpus(count: int) -> None:
  """Makes logical CPUs if there are too few; TensorFlow must not run yet.

  Args:
    count: How many there shall be.

  Raises:
    UsageError: If TensorFlow runs with fewer.
  """
  cpu, = tf.config.list_physical_devices('CPU')
  made = tf.config.get_logical_device_configuration(cpu) or ()
  if max(1, len(made)) >= count:  # Without a list there is one.
    return
  try:
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count)
  except RuntimeError:
    raise errors.UsageError(
        f'runtime.num_logical_cpus: this process has {max(1, len(made))}, '
        f'received {count}; TensorFlow makes them when it starts') from None
