"""What an upgrade of tf_keras or TensorFlow must not take away."""

import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import internals
from modelgarden_opt.compression import leaves
from modelgarden_opt.compression import topology
from modelgarden_opt.compression.quantization import bias
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling import factory
from tests import conftest


@pytest.fixture(scope='module')
def quantized(tiny_params):
  task = task_factory.get_task(tiny_params('mobilenet_v2').task)
  return factory.compress(task.build_model(), quantization_cfg.Quantization())


def test_layers_inside_of_blocks_and_nested_models_are_found(quantized):
  kernels = [layer for layer in internals.layers_of(quantized)
             if isinstance(layer, leaves.Rewired)
             and layer.layer_type in topology.KERNELS]
  # Stem, three inverted bottlenecks (the first without an expansion that is
  # called, but with its layer), the last convolution and the head.
  assert len([layer for layer in kernels if layer.built]) == 11


def test_what_is_untracked_is_neither_variable_nor_checkpoint():
  layer = tf_keras.layers.Dense(3)
  layer.build([None, 2])
  before = [v.name for v in layer.variables]
  internals.set_untracked(layer, extra=tf.Variable(1.0), more=[layer])
  assert [v.name for v in layer.variables] == before
  assert 'extra' not in tf.train.TrackableView(layer).children(layer)


def test_a_replaced_kernel_is_what_the_op_reads():
  layer = tf_keras.layers.Dense(3, use_bias=False)
  x = conftest.random_images([4, 2])
  expected = layer(x)
  variable = layer.kernel
  with internals.replaced(layer, kernel=2.0 * variable):
    np.testing.assert_allclose(layer(x), 2.0 * expected, rtol=1e-6)
  assert layer.kernel is variable and layer.variables == [variable]
  with internals.replaced(layer, call=lambda inputs: inputs):
    assert layer.call(x) is x
  np.testing.assert_array_equal(layer(x), expected)


@pytest.mark.parametrize('traced', [False, True])
def test_no_layer_loses_the_step_of_what_it_reads(
    quantized, traced, monkeypatch):
  """Biases of a layer that lost it would be rounded in the file only."""
  lost, seen = [], []
  original = leaves.Rewired._call_float

  def call(self, inputs, training):
    if self.layer_type in topology.KERNELS:
      (seen if bias.step_of(inputs) is not None else lost).append(self.path)
    return original(self, inputs, training)

  monkeypatch.setattr(leaves.Rewired, '_call_float', call)
  run = lambda x: quantized(x, training=False)  # noqa: E731
  (tf.function(run) if traced else run)(conftest.random_images([1, 32, 32, 3]))
  assert not lost and len(seen) == 11
