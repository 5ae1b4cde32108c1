"""Errors of layers against float, in a model and in files."""

import numpy as np
import pytest

from modelgarden_opt import errors
from modelgarden_opt.analysis import file_pair
from modelgarden_opt.analysis import layer_errors
from modelgarden_opt.analysis import signals
from modelgarden_opt.analysis import subject
from modelgarden_opt.modeling import observing
from tests import conftest
from tests.analysis import damage

_RANGE = 'backbone/inverted_bottleneck_block_1/depthwise_activation_layer'


@pytest.fixture(scope='module')
def trained(qat_run):
  return subject.load(qat_run)


@pytest.fixture(scope='module')
def images(trained):
  return trained.images('validation', 40)[0]


@pytest.fixture(scope='module')
def by_layer(trained, images):
  return {e.layer: e for e in layer_errors.measure(trained, images)}


def test_the_ratio_is_that_of_its_definition():
  x = np.float32([3.0, -4.0])
  assert signals.ratio_db(x, x + np.float32([0.0, 0.5])) == pytest.approx(20.0)
  assert signals.ratio_db(x, x) == signals.MOST_DB
  assert signals.ratio_db(np.zeros(2), x) is None


def test_the_last_layer_has_the_error_of_the_models_output(
    trained, images, by_layer):
  quantized = trained.run.model(images, training=False).numpy()
  with observing.activations(trained.run.model, lambda q, x: x):
    floats = trained.run.model(images, training=False).numpy()
  head = by_layer['dense_0']
  assert head.sqnr_db == pytest.approx(
      conftest.sqnr_db(floats, quantized), abs=1.0)


def test_every_kernel_has_an_error_and_eight_bits_of_it(by_layer):
  kernels = [e for e in by_layer.values() if e.bits]
  assert len(kernels) == 11
  assert {e.bits for e in kernels} == {8}
  # Eight bits: 6 dB a bit, less the part of the range that is not used.
  assert all(30 < e.kernel_sqnr_db < 55 for e in kernels)
  assert all(e.sqnr_db > 5 for e in kernels)


def test_a_range_that_is_too_small_clips_and_comes_last(trained, images):
  quantizer, = [q for q in observing.activation_quantizers(trained.run.model)
                if q.path == _RANGE]
  before = quantizer.maximum.numpy()
  quantizer.maximum.assign(before / 20)
  try:
    found = {e.layer: e for e in layer_errors.measure(trained, images)}
  finally:
    quantizer.maximum.assign(before)
  worst = min((e for e in found.values() if e.own_sqnr_db is not None),
              key=lambda e: e.own_sqnr_db)
  assert worst.layer == _RANGE
  assert worst.clipped > 0.2 and worst.saturated > 0.2
  assert worst.range_use == pytest.approx(1.0)


def test_a_range_that_is_too_large_is_hardly_used(trained, images):
  quantizer, = [q for q in observing.activation_quantizers(trained.run.model)
                if q.path == _RANGE]
  before = quantizer.maximum.numpy()
  quantizer.maximum.assign(before * 50)
  try:
    found = {e.layer: e for e in layer_errors.measure(trained, images)}
  finally:
    quantizer.maximum.assign(before)
  assert found[_RANGE].range_use < 0.05
  assert found[_RANGE].clipped == 0
  assert found[_RANGE].own_sqnr_db < 15


def test_files_differ_as_much_as_the_models_that_they_are_of(
    exported, float_run, images):
  files = [exported('float', name)['model'] for name in ('float32', 'int8')]
  found = file_pair.measure(*files, images)
  twin = subject.load(float_run, calibration_images=64)
  by_layer = {e.layer: e for e in layer_errors.measure(twin, images)}
  kernels = [e for e in found if e.op in (
      'CONV_2D', 'DEPTHWISE_CONV_2D', 'FULLY_CONNECTED')]
  assert len(kernels) == 11
  depthwise = [e for e in found if e.op == 'DEPTHWISE_CONV_2D']
  assert [e.sqnr_db for e in depthwise] == pytest.approx([
      by_layer[f'backbone/inverted_bottleneck_block_{i}/'
               'depthwise_activation_layer'].sqnr_db for i in range(3)],
                                                         abs=1.0)
  assert all(0 <= e.bias_rounding < 0.01 for e in kernels)
  assert all(0.5 < e.range_use <= 1 for e in kernels)


def test_files_that_are_no_pair_are_refused(exported, images):
  floats = exported('float', 'float32')['model']
  integers = exported('float', 'int8')['model']
  with pytest.raises(errors.UsageError, match='float file first'):
    file_pair.measure(integers, floats, images)
  with pytest.raises(errors.UsageError, match=r'have \[16, 16, 3\]'):
    file_pair.measure(floats, integers, images[:, :16, :16])


def test_a_broken_kernel_has_no_signal_left(float_run, tmp_path):
  from modelgarden_opt.tasks import run_directory
  run = run_directory.load(float_run)
  damage.break_kernel(run)
  twin = subject.load(float_run, damage.save(run, tmp_path),
                      calibration_images=64)
  found = {e.layer: e for e in layer_errors.measure(
      twin, twin.images('validation', 40)[0])}
  assert found[damage.KERNEL].sqnr_db < 3
  assert found['backbone/inverted_bottleneck_block_0/conv2'].sqnr_db > 15
