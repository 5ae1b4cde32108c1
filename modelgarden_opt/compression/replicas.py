"""What state of a technique needs so that all replicas of a model agree.

A range, a mask or a cluster table is one thing, however many replicas train
the model. Each replica computes the same new value and stores it in its own
copy; so a copy can be read anywhere without communication: in a training step,
in evaluation, in a checkpoint and on export.
"""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

# Arguments of variables that every replica sets to the same value by itself.
SAME_ON_ALL = {
    'synchronization': tf.VariableSynchronization.ON_READ,
    'aggregation': tf.VariableAggregation.ONLY_FIRST_REPLICA,
}


def largest(values: tf.Tensor) -> tf.Tensor:
  """Returns the maximum over the replicas that run a step, element by element.

  Args:
    values: Tensor [n] of this replica; no gradient passes.
  """
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return values
  if _in_one_process(context.strategy):
    # Plain ops and copies between the devices of this process.
    return context.merge_call(_largest, args=(values,))
  # A row of each replica, added up: `all_gather` sends the shapes before.
  mine = tf.one_hot(context.replica_id_in_sync_group,
                    context.num_replicas_in_sync, True, False)
  rows = tf.where(mine[:, tf.newaxis], values, tf.zeros_like(values))
  return tf.reduce_max(
      context.all_reduce(tf.distribute.ReduceOp.SUM, rows), axis=0)


def _in_one_process(strategy: tf.distribute.Strategy) -> bool:
  """Whether a merge call sees the values of all replicas.

  Of several processes each sees its own replicas; on a TPU a merge call sees
  the replica that is traced; and XLA knows collective ops only.
  """
  return isinstance(strategy, tf.distribute.MirroredStrategy) and (
      strategy.extended._use_merge_call())  # pylint: disable=protected-access


def _largest(strategy: tf.distribute.Strategy, values: Any) -> tf.Tensor:
  return tf.reduce_max(
      tf.stack(strategy.experimental_local_results(values)), axis=0)


def update(
    variables: list[tf.Variable], change: Callable[[int, Any], None]
) -> None:
  """Changes variables of all replicas at the end of a training step.

  Args:
    variables: Mirrored variables, equal on all replicas.
    change: Called with the index of a variable and its copy on one device, in
      a context in which other mirrored variables are read and assigned on that
      device, too.
  """
  def on_all(strategy):
    for index, variable in enumerate(variables):
      strategy.extended.update(
          variable, lambda copy, index=index: change(index, copy), group=False)

  tf.distribute.get_replica_context().merge_call(on_all)


def equalize(variables: Iterable[tf.Variable]) -> None:
  """Gives all replicas the mean of what each of them keeps by itself.

  Moving averages of batch normalization that is not synchronized differ by
  replica. A checkpoint holds their mean; evaluation and further training shall
  go on from the same.

  Args:
    variables: Of any kind; others are left alone.
  """
  for variable in variables:
    if (isinstance(variable, tf.distribute.DistributedValues) and
        variable.synchronization is tf.VariableSynchronization.ON_READ and
        variable.aggregation is tf.VariableAggregation.MEAN):
      variable.assign(variable.numpy())


def value(variable: tf.Variable) -> np.ndarray:
  """Returns the value of a variable outside of a step, distributed or not.

  `int(v)` and `float(v)` fail for distributed variables.
  """
  return variable.numpy()
