"""A file that lost kernels, zeros or clusters of its model is told."""

import dataclasses

import numpy as np
import pytest
import tf_keras

from modelgarden_opt.configs import clustering
from modelgarden_opt.configs import pruning
from modelgarden_opt.configs import quantization
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.export import convert
from modelgarden_opt.export import formats
from modelgarden_opt.export import invariants
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import factory
from modelgarden_opt.tasks import run_directory
from tests import conftest
from tests.modeling.equalization import models


@pytest.fixture(scope='module')
def pruned(tiny_params, float_run, tmp_path_factory):
  """A model pruned to 50 % and its float file: (model, converted, kernels)."""
  from modelgarden_opt.training import experiment
  path = tmp_path_factory.mktemp('pruned')
  experiment.run_experiment(tiny_params('mobilenet_v2_pruning', {
      'task': {'pruning': {
          'pretrained_original_checkpoint': float_run, 'begin_step': 0,
          'end_step': 10, 'frequency': 5, 'final_sparsity': 0.5,
          'policy': 'all'}},
      'trainer': {'train_steps': 20, 'steps_per_loop': 20}}),
      'train', str(path))
  model = run_directory.load(str(path)).model
  converted = convert.convert_as(
      model, formats.Options(file_format='float32'))
  file = path / 'm.tflite'
  file.write_bytes(converted.content)
  return model, converted, inspection.kernels(str(file))


def test_the_whole_file_passes(pruned):
  model, converted, kernels = pruned
  assert invariants.problems(model, kernels, False, converted.variables) == []


def test_a_pointwise_kernel_may_be_one_of_a_matrix_product(pruned):
  model, converted, kernels = pruned
  flat = [dataclasses.replace(k, values=k.values[:, 0, 0])
          if k.values.shape[1:3] == (1, 1) else k for k in kernels]
  assert [k.values.ndim for k in flat] != [k.values.ndim for k in kernels]
  assert invariants.problems(model, flat, False, converted.variables) == []


@pytest.mark.parametrize('index', [0, 3, -1])
def test_a_kernel_that_vanished_is_told(pruned, index):
  model, converted, kernels = pruned
  kernels = list(kernels)
  gone = kernels.pop(index)
  line, = invariants.problems(model, kernels, False, converted.variables)
  assert str(gone.values.shape) in line and 'the file holds' in line


def test_kernels_that_no_output_depends_on_may_be_missing(pruned):
  model, converted, kernels = pruned
  needed = converted.variables[1:]
  kept = [k for k in kernels if k.values.shape != kernels[0].values.shape]
  first = converted.variables[0]
  assert len(kernels) - len(kept) == 1 and first.shape.rank == 4
  assert np.prod(first.shape) == kernels[0].size
  assert invariants.problems(model, kept, False, needed) == []


_FEW = pruning.Pruning(
    pruning_schedule='ConstantSparsity', end_step=0, final_sparsity=0.02)
_CLUSTERS = clustering.Clustering(number_of_clusters=12, preserve_sparsity=True)


@pytest.mark.parametrize('blocks', [[_FEW], [_FEW, _CLUSTERS]])
def test_zeros_stay_zeros_in_a_file_of_4_bits(blocks, tmp_path):
  """There more weights are rounded to zero than the mask has."""
  layers = tf_keras.layers
  x = inputs = tf_keras.Input([12, 12, 3])
  for conv in (
      layers.Conv2D(8, 3), layers.DepthwiseConv2D(3),
      layers.Conv2D(48, 1, kernel_initializer='random_normal')):
    x = layers.ReLU(6.0)(layers.BatchNormalization()(conv(x)))
  float_model = tf_keras.Model(
      inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
  conftest.randomize_norms(float_model)
  model = factory.compress(float_model, *blocks, quantization.Quantization(
      change_num_bits=True, num_bits_weight=4, low_bit='all'))
  for technique in ('pruning', 'clustering'):
    found = constraints.find(model, technique)
    constraints.start(found)
    constraints.update(found, 0)
  models.calibrate(model, conftest.random_images([8, 12, 12, 3]))
  converted = convert.convert_as(model, formats.Options(file_format='int8'))
  file = tmp_path / 'm.tflite'
  file.write_bytes(converted.content)
  kernels = inspection.kernels(str(file))
  assert [k.dtype for k in kernels] == ['int8'] + 3 * ['int4']

  def problems(kernels):
    return invariants.problems(model, kernels, True, converted.variables)

  assert problems(kernels) == []
  planned = sum(item.kernel.shape.num_elements() / 50
                for item in constraints.find(model, 'pruning'))
  assert sum(np.sum(k.values == 0) for k in kernels
             if k.op != 'DEPTHWISE_CONV_2D') > planned + 10
  revived = np.where(kernels[2].values == 0, 1, kernels[2].values)
  line, = problems([*kernels[:2], dataclasses.replace(
      kernels[2], values=revived), kernels[3]])
  assert 'zeros became' in line


def test_clusters_count_up_to_the_sign_that_batch_norm_gives_a_channel(
    tmp_path):
  """A file's scales are positive, so a negative gamma negates integers."""
  layers = tf_keras.layers
  inputs = tf_keras.Input([12, 12, 3])
  norm = layers.BatchNormalization()
  x = norm(layers.Conv2D(24, 3)(inputs))
  float_model = tf_keras.Model(
      inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
  conftest.randomize_norms(float_model)
  gamma = abs(norm.gamma.numpy())
  gamma[::3] *= -1
  norm.gamma.assign(gamma)
  model = factory.compress(
      float_model, clustering.Clustering(number_of_clusters=12),
      quantization.Quantization())
  constraints.start(constraints.find(model, 'clustering'))
  models.calibrate(model, conftest.random_images([8, 12, 12, 3]))
  converted = convert.convert_as(model, formats.Options(file_format='int8'))
  file = tmp_path / 'm.tflite'
  file.write_bytes(converted.content)
  conv, dense = inspection.kernels(str(file))
  assert conv.op == 'CONV_2D' and 12 < conv.distinct <= 24
  assert dense.distinct == 12

  def problems(conv):
    return invariants.problems(
        model, [conv, dense], True, converted.variables)

  assert problems(conv) == []
  nudged = conv.values.copy()
  nudged[3].flat[0] += 1  # Of a channel that is negated.
  line, = problems(dataclasses.replace(conv, values=nudged))
  assert line.endswith(': 12 distinct values became 13')
