"""What a choice is expected to cost, against what it costs."""

import gzip

import numpy as np
import pytest

from modelgarden_opt.evaluation import inspection
from modelgarden_opt.search import layers as layers_lib
from modelgarden_opt.search import space
from modelgarden_opt.tasks import quantized_twin
from modelgarden_opt.tasks import run_directory


@pytest.fixture(scope='module')
def found(float_run):
  return layers_lib.find(
      quantized_twin.of_run(run_directory.load(float_run)).model)


def test_they_are_the_kernels_of_the_file_in_its_order(found, exported):
  kernels = inspection.kernels(exported('float', 'int8')['model'])
  assert [layer.kernel.size for layer in found] == [k.size for k in kernels]
  assert found[0].path == 'backbone/conv2dbn_block_0/conv0'
  assert found[0].positions == 16 * 16 and found[-1].positions == 1


def test_zipped_bytes_are_those_of_the_integers_of_the_file(found, exported):
  """Of a file with a scale a channel; some weights are rounded otherwise."""
  kernels = inspection.kernels(exported('float', 'int8')['model'])
  family = space.Family()
  for layer, kernel in zip(found, kernels):
    expected = layers_lib.zipped(layer, space.Choice(), family)
    if kernel.num_scales == 1:  # The dense kernel.
      expected = layers_lib.zipped(
          layer, space.Choice(), space.Family(space.PER_TENSOR))
    scales = 8 * kernel.num_scales if kernel.num_scales > 1 else 0
    actual = len(gzip.compress(kernel.values.astype(np.int8).tobytes()))
    assert expected == pytest.approx(actual + scales, rel=0.03, abs=30)


def test_fewer_bits_more_zeros_and_one_scale_cost_less(found):
  layer = max(found, key=lambda layer: layer.kernel.size)
  order = [(space.Choice(32), space.Family()), (space.Choice(), space.Family()),
           (space.Choice(sparsity=0.5), space.Family()),
           (space.Choice(4), space.Family()),
           (space.Choice(4), space.Family(space.PER_TENSOR)),
           (space.Choice(4, 0.8), space.Family(space.PER_TENSOR))]
  sizes = [layers_lib.zipped(layer, *pair) for pair in order]
  assert sizes == sorted(sizes, reverse=True) and sizes[0] > 8 * sizes[-1]


def test_4_bits_cost_time_where_they_leave_the_delegate(found):
  by_type = {layer.layer_type: layer for layer in found}
  times = {kind: [layers_lib.time(layer, space.Choice(bits), space.Family())
                  for bits in (32, 8, 4)] for kind, layer in by_type.items()}
  assert times['DepthwiseConv2D'][2] == times['DepthwiseConv2D'][0]
  assert times['Dense'][2] < 0.5 * times['Dense'][0]
