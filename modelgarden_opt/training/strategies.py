"""The distribution strategy that a `runtime:` block describes."""

import functools

from official.common import distribute_utils
from official.core import config_definitions as cfg
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt import techniques
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.training import cluster

# Strategies for float models only, and why.
_FLOATS_ONLY = {
    'parameter_server': 'its workers take steps at different times, so that no '
                        'range, mask or table is the same for all',
    'tpu': 'ranges, masks and tables have never been checked on one'}
# Strategies of more than one process.
OF_SEVERAL = ('mirrored', 'multi_worker_mirrored', 'parameter_server')


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
  _assert_trains(params, name)
  count = getattr(runtime, 'num_logical_cpus', 1)
  found = cluster.read()
  if found is not None:
    name = _of_cluster(name, found, count)
    if name == 'multi_worker_mirrored':
      _assert_sent(params)
  elif name == 'parameter_server':
    raise errors.UsageError(
        'runtime.distribution_strategy: parameter_server needs a cluster with '
        'a chief, workers and parameter servers (TF_CONFIG); try '
        '`modelgarden-opt launch --workers=2 --parameter_servers=1 train ...`')
  if count > 1:
    make_logical_cpus(count)
    return _of_logical_cpus(count, runtime.all_reduce_alg, runtime.num_packs)
  return _strategy(name, runtime.all_reduce_alg, runtime.num_gpus,
                   runtime.num_packs, runtime.tpu)


def _assert_trains(params: cfg.ExperimentConfig, name: str) -> None:
  """Refuses what a strategy cannot train.

  Not a rule of configurations: published ones name a TPU, and whoever has none
  overrides that.
  """
  blocks = techniques.blocks_of(params.task)
  if name in _FLOATS_ONLY and blocks:
    raise errors.UsageError(
        f'runtime.distribution_strategy: {name} trains float models only '
        f'({_FLOATS_ONLY[name]}), received task.{next(iter(blocks))}; use '
        'mirrored or multi_worker_mirrored')
  if name == 'tpu' and not params.task.validation_data.drop_remainder:
    raise errors.UsageError(
        'task.validation_data.drop_remainder: must be true with '
        'distribution_strategy: tpu, which compiles for one size of batches, '
        'received false')


def _assert_sent(params: cfg.ExperimentConfig) -> None:
  """Refuses variables that TensorFlow does not send between processes."""
  block = getattr(params.task, 'quantization', None)
  if block is not None and block.oscillation != quantization_cfg.NONE:
    raise errors.UsageError(
        'task.quantization.oscillation: must be '
        f'{quantization_cfg.NONE!r} in a cluster, since TensorFlow sends no '
        f'int8 variables between processes, received {block.oscillation!r}')


def _of_cluster(name: str, found: cluster.Cluster, num_cpus: int) -> str:
  """Returns the name of the strategy of a cluster, see `cluster`.

  Args:
    name: That of the configuration. `mirrored` is mirrored over all workers.
    found: The cluster.
    num_cpus: `runtime.num_logical_cpus`.

  Raises:
    UsageError: If this strategy would leave the other processes alone.
  """
  if found.num_workers == 1 and len(found.addresses) == 1:
    return name
  several = f'a cluster of {found.num_workers} workers'
  if name not in OF_SEVERAL:
    raise errors.UsageError(
        f'runtime.distribution_strategy: {several} needs one of '
        f'{", ".join(OF_SEVERAL)}, received {name!r}')
  if num_cpus > 1:
    raise errors.UsageError(
        f'runtime.num_logical_cpus: must be 1 in {several}, received '
        f'{num_cpus}')
  if name == 'parameter_server' and {*found.addresses} != {*cluster.KINDS}:
    raise errors.UsageError(
        'runtime.distribution_strategy: parameter_server needs processes of '
        f'the kinds {", ".join(cluster.KINDS)}, TF_CONFIG has '
        f'{", ".join(found.addresses)}')
  if 'ps' in found.addresses and name != 'parameter_server':
    raise errors.UsageError(
        'runtime.distribution_strategy: a cluster with a process of the kind '
        f"'ps' needs parameter_server, received {name!r}")
  return 'multi_worker_mirrored' if name == 'mirrored' else name


def assert_mode(params: cfg.ExperimentConfig, mode: str) -> None:
  """Refuses modes that the processes of a cluster cannot run together.

  Args:
    params: The resolved configuration.
    mode: See `experiment.run_experiment`.

  Raises:
    UsageError: If one process has to do it, or none can.
  """
  if cluster.read() is None:
    return
  _assert_trains(params, params.runtime.distribution_strategy)
  beside = ('evaluate by a process of its own, without TF_CONFIG: '
            '--mode=continuous_eval beside the training, or --mode=eval')
  if params.runtime.distribution_strategy == 'parameter_server' and (
      mode != 'train'):
    raise errors.UsageError(
        f'mode: parameter_server needs train, received {mode!r}; {beside}')
  if mode == 'continuous_eval':
    raise errors.UsageError(
        f'mode: a cluster cannot run continuous_eval; {beside}')


def assert_batches(
    params: cfg.ExperimentConfig, mode: str, num_replicas: int) -> None:
  """Refuses global batches that the replicas cannot share evenly.

  Args:
    params: The resolved configuration.
    mode: See `experiment.run_experiment`; names the splits that are read.
    num_replicas: How many replicas take a step together.

  Raises:
    UsageError: One message with every such batch.
  """
  parts = num_replicas * getattr(
      params.runtime, 'gradient_accumulation_steps', 1)
  divisors = {}
  if 'train' in mode:
    divisors['train_data'] = parts
  if 'eval' in mode:
    divisors['validation_data'] = num_replicas
  problems = []
  for name, divisor in divisors.items():
    size = getattr(params.task, name).global_batch_size
    if size % divisor:
      low = size - size % divisor
      of = errors.counted(num_replicas, 'replica') + (
          f' of {parts // num_replicas} parts' if divisor > num_replicas
          else '')
      problems.append(
          f'task.{name}.global_batch_size: must be a multiple of {divisor} '
          f'({of}), received {size}; nearest: '
          + ' or '.join(str(n) for n in (low, low + divisor) if n))
  if problems:
    raise errors.UsageError('\n'.join(problems))


def serves(params: cfg.ExperimentConfig) -> bool:
  """Whether this process works for the chief of a parameter server strategy."""
  found = cluster.read()
  return (params.runtime.distribution_strategy == 'parameter_server'
          and found is not None and found.kind != 'chief')


def serve() -> None:
  """Works for the chief until this process is stopped."""
  resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
  server = tf.distribute.Server(
      resolver.cluster_spec(), job_name=resolver.task_type,
      task_index=resolver.task_id, protocol=resolver.rpc_layer or 'grpc')
  print(f'train | {resolver.task_type} {resolver.task_id} serves', flush=True)
  server.join()


@functools.cache
def _of_logical_cpus(
    count: int, all_reduce_alg: str | None, num_packs: int
) -> tf.distribute.Strategy:
  """Returns the strategy of so many logical CPUs, see `_strategy`."""
  _assert_not_nccl(all_reduce_alg)
  return tf.distribute.MirroredStrategy(
      [f'CPU:{index}' for index in range(count)],
      cross_device_ops=all_reduce_alg and (
          tf.distribute.HierarchicalCopyAllReduce(num_packs)))


def _assert_not_nccl(all_reduce_alg: str | None) -> None:
  """Refuses the algorithm of GPUs for processors."""
  if all_reduce_alg == 'nccl':
    raise errors.UsageError(
        'runtime.all_reduce_alg: nccl is for GPUs, and none is used; leave it '
        'out')


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
  if not (there if name == 'multi_worker_mirrored' else num_gpus):
    _assert_not_nccl(all_reduce_alg)
  try:
    return distribute_utils.get_distribution_strategy(
        distribution_strategy=name, all_reduce_alg=all_reduce_alg,
        num_gpus=num_gpus, num_packs=num_packs, tpu_address=tpu)
  except (ValueError, KeyError, RuntimeError, tf.errors.OpError) as e:
    raise errors.UsageError(
        f'runtime.distribution_strategy: {name!r} cannot be started'
        f'{_at_address()}: {" ".join(errors.of_op(e).split())[:300]}'
        ) from None


def _at_address() -> str:
  """Says where this process listens; empty outside of a cluster."""
  found = cluster.read()
  if found is None:
    return ''
  address = found.addresses[found.kind][found.index]
  return f' at {address}, whose port may be in use'


def is_chief() -> bool:
  """Whether this process writes the run: of several workers, one does."""
  found = cluster.read()
  return found is None or found.kind == 'chief' or (
      found.kind == 'worker' and found.index == 0
      and 'chief' not in found.addresses)


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
