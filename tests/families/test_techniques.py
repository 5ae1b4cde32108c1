"""Masks, clusters, fewer channels: in every family, up to the integer file."""

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import clustering
from modelgarden_opt.configs import pruning
from modelgarden_opt.configs import quantization
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.export import invariants
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.channel_pruning import channel_search
from modelgarden_opt.modeling.channel_pruning import channels
from tests import conftest
from tests import tiny
from tests.families import test_families
from tests.families import test_segmentation

# What takes seconds; the others have all of their blocks and are slow.
_SHORT = (*tiny.SHORT, *test_families.SHALLOW, 'deeplabv3_mobilenet_v2')
FAMILIES = [
    name if name in _SHORT else pytest.param(name, marks=pytest.mark.slow)
    for name in catalog.MODELS]


def _float_model(name, data_dir):
  if catalog.MODELS[name].task == 'image_classification':
    task = test_families.make_task(name, data_dir, short=True)
  else:
    case = test_segmentation.OPTIONS['dilated'] if name in _SHORT else None
    task = test_segmentation.make_task(name, data_dir, case)
  model = task.build_model()
  conftest.randomize_norms(model)
  return model


def _file(model, path):
  path.write_bytes(convert.convert(model, 'int8'))
  return str(path)


@pytest.mark.parametrize('name', FAMILIES)
def test_pcqat_keeps_zeros_and_clusters_in_the_file(name, data_dir, tmp_path):
  model = factory.compress(
      _float_model(name, data_dir),
      quantization.Quantization(),
      pruning.Pruning(pruning_schedule='ConstantSparsity', end_step=0),
      clustering.Clustering(
          cluster_centroids_init='LINEAR', preserve_sparsity=True))
  found = constraints.find(model)
  constraints.update(found, 0)
  constraints.start(constraints.find(model, 'clustering'))
  assert constraints.problems(found) == []
  assert constraints.sparsity(found) == pytest.approx(0.5, abs=1e-3)
  kernels = inspection.kernels(_file(model, tmp_path / 'm.tflite'))
  assert invariants.problems(model, kernels, quantized=True) == []
  # DeepLab's outputs do not depend on the last convolution of its backbone.
  expected = len(constraints.find(model, 'clustering')) - (
      catalog.MODELS[name].task == 'semantic_segmentation')
  assert sum(k.distinct <= 16 for k in kernels) >= expected


@pytest.mark.parametrize('name', FAMILIES)
def test_fewer_channels_reach_the_file(name, data_dir, tmp_path):
  floats = _float_model(name, data_dir)
  whole = factory.neutral(floats)
  if not channels.groups(whole):
    pytest.skip('no channels that end inside of a block')
  result = channel_search.prune(
      whole, pruning.Pruning(
          granularity='channel', keep_ratio=0.995, channel_multiple=4), None)
  small = factory.compress(
      floats, quantization.Quantization(), filters=result.candidate.filters)
  channel_search.transfer(result.candidate, small)
  assert small.count_params() < whole.count_params()
  inputs = small.inputs or small.backbone.inputs
  images = conftest.random_images([4, *inputs[0].shape[1:]])
  calibration.calibrate(small, tf.data.Dataset.from_tensors((images, 0)))
  path = _file(small, tmp_path / 'm.tflite')
  assert not census.take(path).float_ops
  assert invariants.problems(
      small, inspection.kernels(path), quantized=True) == []
  expected = factory.logits(small(images, training=False)).numpy()
  file = litert_model.Model(path)
  assert np.std(expected) > 8 * file.output_scale, 'outputs that say nothing'
  # The outputs of an untrained deep model span many steps, and its errors do.
  assert np.mean(np.abs(file(images.numpy()) - expected)) <= max(
      1.5 * file.output_scale, 0.05 * np.std(expected))
