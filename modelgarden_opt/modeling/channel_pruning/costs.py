"""What a model costs, so that pruning can aim at a share of it.

A custom cost is a function of a candidate:

    @costs.COSTS.register('energy')
    def energy(dense):
      return lambda candidate: ...

and `target: energy` in a `pruning:` block names it.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt import registry
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import rules
from modelgarden_opt.compression import topology
from modelgarden_opt.modeling import observing
from modelgarden_opt.modeling.channel_pruning import channels

Cost = Callable[[channels.Candidate], float]
# Cost by name: takes the model with all channels and returns a function of
# candidates. Only ratios count.
COSTS = registry.Registry('cost')


@COSTS.register('params')
def _params(dense: tf_keras.Model) -> Cost:
  """Number of trainable weights."""
  variables = dense.trainable_variables
  return lambda candidate: sum(map(candidate.num_elements, variables))


@COSTS.register('flops')
def _flops(dense: tf_keras.Model) -> Cost:
  """Multiplications and additions of convolutions and dense layers."""
  applied = positions(dense)
  return lambda candidate: 2 * sum(
      count * candidate.num_elements(layer.kernel_variable)
      for layer, count in applied)


def positions(model: tf_keras.Model) -> list[tuple[leaves.Rewired, int]]:
  """Returns every layer with a kernel, and at how many positions it is applied.

  Args:
    model: A built model of twins.
  """
  counts: dict[int, int] = {}
  layers = [layer for layer in internals.layers_of(model)
            if isinstance(layer, leaves.Rewired) and
            rules.float_type(layer) in topology.KERNELS]

  def count(layer, call, *args, **kwargs):
    outputs = call(*args, **kwargs)
    counts[id(layer)] = counts.get(id(layer), 0) + int(
        np.prod(outputs.shape[1:-1]))
    return outputs

  inputs = model.inputs or model.backbone.inputs
  with observing.calls(layers, count):
    tf.function(
        lambda image: model(image, training=False), autograph=False
    ).get_concrete_function(tf.TensorSpec([1, *inputs[0].shape[1:]]))
  return [(layer, counts[id(layer)]) for layer in layers
          if id(layer) in counts]
