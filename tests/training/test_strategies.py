"""A process has one strategy of each kind, and as many CPUs as it began with.

A second strategy would number its collective ops from the beginning, and
TensorFlow would take them for those of the first.
"""

import subprocess
import sys

import pytest
import tensorflow as tf

from modelgarden_opt import errors
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
