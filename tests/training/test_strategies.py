"""A process has one strategy of each kind, and as many CPUs as it began with.

A second strategy would number its collective ops from the beginning, and
TensorFlow would take them for those of the first.
"""

import os
import socket
import subprocess
import sys

import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.training import cluster
from modelgarden_opt.training import experiment as experiment_lib
from modelgarden_opt.training import strategies
from tests import conftest

TWO = {'distribution_strategy': 'mirrored', 'num_logical_cpus': 2}


@pytest.fixture
def strategy_of(tiny_params):
  """Returns `get(runtime, **trainer)`."""

  def get(runtime, **trainer):
    return strategies.get_strategy(tiny_params(
        'mobilenet_v2', {'runtime': runtime, 'trainer': trainer}))

  return get


def test_there_is_one_strategy_of_each_kind(strategy_of):
  two = strategy_of(TWO)
  assert two.num_replicas_in_sync == 2
  assert strategy_of({'distribution_strategy': 'one_device'}) is not two
  three = strategy_of({**TWO, 'num_logical_cpus': 3})
  assert three.num_replicas_in_sync == 3
  assert strategy_of(TWO) is two


def test_moving_averages_need_a_strategy(strategy_of):
  off = {'distribution_strategy': 'off'}
  assert not isinstance(strategy_of(off), tf.distribute.OneDeviceStrategy)
  averaged = strategy_of(
      off, optimizer_config={'ema': {'average_decay': 0.9}})
  assert isinstance(averaged, tf.distribute.OneDeviceStrategy)


def test_one_cpu_is_always_there():
  # In a process of its own: this one has several.
  subprocess.run([sys.executable, '-c', (
      'import tensorflow as tf\n'
      'from modelgarden_opt.training import strategies\n'
      'tf.ones([])\n'
      'strategies.make_logical_cpus(1)\n')], check=True,
                 cwd=conftest.REPOSITORY)


def test_cpus_cannot_be_added_to_a_process_that_runs(strategy_of):
  count = conftest.NUM_LOGICAL_CPUS
  tf.ones([])  # TensorFlow runs.
  with pytest.raises(
      errors.UsageError, match=f'this process has {count}, received '
      f'{count + 1}; TensorFlow makes them when it starts'):
    strategy_of({**TWO, 'num_logical_cpus': count + 1})


@pytest.mark.parametrize(('experiment', 'name', 'expected'), [
    ('mobilenet_v2_qat', 'parameter_server',
     r'float models only \(its workers take steps at different times.*received '
     'task.quantization'),
    ('mobilenet_v2_pruning', 'tpu',
     r'float models only \(ranges, masks and tables have never.*task.pruning'),
    ('mobilenet_v2', 'tpu',
     'validation_data.drop_remainder: must be true'),
])
def test_what_a_strategy_cannot_train_is_refused(
    tiny_params, experiment, name, expected):
  params = tiny_params(experiment, {'runtime': {'distribution_strategy': name}})
  with pytest.raises(errors.UsageError, match=expected):
    strategies.get_strategy(params)


def test_a_tpu_that_is_not_there_is_one_message(tiny_params):
  params = tiny_params('mobilenet_v2', {
      'runtime': {'distribution_strategy': 'tpu', 'tpu': 'local'},
      'task': {'validation_data': {'drop_remainder': True}}})
  with pytest.raises(errors.UsageError, match=(
      "runtime.distribution_strategy: 'tpu' cannot be started")):
    strategies.get_strategy(params)


def test_a_port_that_is_in_use_is_named():
  """In a process of its own: TensorFlow starts one server in each."""
  with socket.create_server(('', 0)) as taken:
    address = f'127.0.0.1:{taken.getsockname()[1]}'
    code = (
        'import tensorflow as tf\n'
        'from modelgarden_opt import errors\n'
        'from modelgarden_opt.training import strategies\n'
        'try:\n'
        "  strategies._strategy('multi_worker_mirrored', None, 0, 1, None)\n"
        'except errors.UsageError as e:\n'
        '  print(e)\n')
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=conftest.REPOSITORY, check=True,
        capture_output=True, text=True, env={
            **os.environ, cluster.VARIABLE: cluster.config_of(
                {'worker': [address, '127.0.0.1:1']}, 'worker', 0)})
  assert ("runtime.distribution_strategy: 'multi_worker_mirrored' cannot be "
          f'started at {address}, whose port may be in use: ') in done.stdout


def test_parameter_servers_need_a_cluster(strategy_of, monkeypatch):
  servers = {'distribution_strategy': 'parameter_server'}
  monkeypatch.delenv(cluster.VARIABLE, raising=False)
  with pytest.raises(errors.UsageError, match='needs a cluster with a chief'):
    strategy_of(servers)
  monkeypatch.setenv(cluster.VARIABLE, cluster.config_of(
      {'worker': ['127.0.0.1:1', '127.0.0.1:2']}, 'worker', 0))
  with pytest.raises(errors.UsageError, match=(
      'processes of the kinds chief, worker, ps, TF_CONFIG has worker')):
    strategy_of(servers)


@pytest.mark.parametrize(('strategy', 'mode', 'expected'), [
    ('parameter_server', 'train_and_eval', "needs train, received 'train_and"),
    ('mirrored', 'continuous_eval', 'a cluster cannot run continuous_eval'),
])
def test_modes_of_one_process_are_refused_in_a_cluster(
    tiny_params, tmp_path, monkeypatch, strategy, mode, expected):
  monkeypatch.setenv(cluster.VARIABLE, cluster.config_of(
      {'worker': ['127.0.0.1:1', '127.0.0.1:2']}, 'worker', 0))
  params = tiny_params('mobilenet_v2', {'runtime': {
      'distribution_strategy': strategy}})
  with pytest.raises(errors.UsageError, match=f'mode: .*{expected}'):
    experiment_lib.run_experiment(params, mode, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_what_no_mode_can_train_is_refused_before_the_mode(
    tiny_params, monkeypatch):
  monkeypatch.setenv(cluster.VARIABLE, cluster.config_of(
      {'worker': ['127.0.0.1:1', '127.0.0.1:2']}, 'worker', 0))
  params = tiny_params('mobilenet_v2_qat', {'runtime': {
      'distribution_strategy': 'parameter_server'}})
  with pytest.raises(errors.UsageError, match='float models only'):
    strategies.assert_mode(params, 'train_and_eval')


@pytest.mark.parametrize('algorithm', ['hierarchical_copy', 'nccl'])
def test_the_all_reduce_algorithm_is_the_configured_one(strategy_of, algorithm):
  runtime = {**TWO, 'all_reduce_alg': algorithm}
  if algorithm == 'nccl':
    with pytest.raises(errors.UsageError, match='nccl is for GPUs'):
      strategy_of(runtime)
    return
  strategy = strategy_of(runtime)
  assert isinstance(strategy.extended._cross_device_ops,
                    tf.distribute.HierarchicalCopyAllReduce)
  shares = strategy.experimental_distribute_values_from_function(
      lambda context: tf.constant(2.0 + context.replica_id_in_sync_group))
  assert float(strategy.reduce('SUM', shares, axis=None)) == 5.0
