"""Sensitivities: the broken layer comes first; budgets stop and resume."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.analysis import journal
from modelgarden_opt.analysis import probe as probe_lib
from modelgarden_opt.analysis import sensitivity
from modelgarden_opt.analysis import stages as stages_lib
from modelgarden_opt.analysis import study as study_lib
from modelgarden_opt.analysis import subject
from modelgarden_opt.analysis import treatments
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import observing
from modelgarden_opt.tasks import run_directory
from tests import conftest
from tests import user_models
from tests.analysis import damage

_EIGHT_BITS = sensitivity.Options(
    treatments=(('quantization', 8),), num_images=120, calibration_images=64)


@pytest.fixture(scope='module')
def twin(float_run):
  return subject.load(float_run, calibration_images=64)


@pytest.fixture(scope='module')
def probe(twin):
  images, _ = twin.images('validation', 64)
  return probe_lib.Probe(twin.run, images)


def test_a_probe_is_the_float_model_until_a_layer_is_switched(
    float_run, twin, probe):
  images, _ = twin.images('validation', 64)
  reference = run_directory.load(float_run).predict(images)
  np.testing.assert_allclose(probe.outputs(), reference, atol=1e-3)


def test_a_probe_with_all_layers_quantized_is_the_twin(twin, probe):
  images, _ = twin.images('validation', 64)
  with probe.quantized():
    outputs = probe.outputs()
  # But for the rounding of biases, which needs the steps of quantizers.
  with observing.activations(
      twin.run.model, lambda q, x: q.quantized(x),
      kernels=calibration.Mode.QUANTIZE):
    expected = twin.run.model(images, training=False).numpy()
  # An output step; single values may be rounded to the other side.
  step = (expected.max() - expected.min()) / 255
  assert np.mean(np.abs(outputs - expected)) < 0.01 * step
  assert np.mean(np.abs(expected - probe.outputs())) > 0.3 * step


def test_a_treated_layer_is_itself_again_afterwards(probe):
  before = probe.outputs()
  path = damage.KERNEL
  for technique, parameter in sensitivity.TREATMENTS:
    with probe.treated(path, technique, parameter):
      assert not np.array_equal(probe.outputs(), before)
  np.testing.assert_array_equal(probe.outputs(), before)


def test_what_comes_before_a_layer_is_computed_once_and_changes_nothing(probe):
  for path in (*probe.paths[::4], probe.paths[1]):
    with probe.treated(path, 'quantization', 8):
      np.testing.assert_array_equal(
          probe.outputs(path, 'float'), probe.outputs())
    with probe.quantized([path]):
      np.testing.assert_array_equal(
          probe.outputs(path, 'quantized'), probe.outputs())


def test_a_model_is_not_cut_where_a_branch_would_be_lost():
  model = user_models.two_branches()
  stages = stages_lib.Stages(model)
  forward = tf.function(
      lambda x: model(x, training=False), autograph=False,
      input_signature=[tf.TensorSpec([None, 32, 32, 3])])
  images = conftest.random_images([2, 32, 32, 3])
  with stages.wrapped():
    forward(images)
  names = [type(layer).__name__ for layer in stages.layers]
  cuts = stages.cuts(lambda: forward(images).numpy())
  joined = names.index('Concatenate')
  assert joined not in cuts and joined + 1 in cuts
  others = conftest.random_images([3, 32, 32, 3], seed=1)
  for cut in cuts:
    given = stages.output_of(cut - 1, lambda: forward(others).numpy(), 0, None)
    np.testing.assert_allclose(
        stages.outputs(lambda: forward(others).numpy(), cut, given),
        model(others), atol=1e-5)


def test_one_change_changes_the_kernel_as_the_technique_does(probe):
  kernel = probe.kernels[damage.KERNEL]
  pruned = treatments.pruned(kernel.leaf, kernel.value, 0.8)
  assert np.mean(pruned == 0) == pytest.approx(0.8, abs=1e-3)
  assert len(np.unique(treatments.clustered(
      kernel.leaf, kernel.value, 16))) == 16
  four = treatments.quantized(kernel.leaf, kernel.value, 4)
  assert max(len(np.unique(four[..., channel]))
             for channel in range(four.shape[-1])) <= 15


def test_depthwise_kernels_are_not_pruned_unless_the_run_does(probe):
  kinds = {probe.kernels[path].leaf.layer_type
           for path in probe.treated_by('pruning', 0.5)}
  assert kinds == {'Conv2D', 'Dense'}


@pytest.fixture(scope='module')
def broken_kernel(float_run, tmp_path_factory):
  run = run_directory.load(float_run)
  damage.break_kernel(run)
  return damage.save(run, tmp_path_factory.mktemp('broken'))


def test_a_broken_kernel_comes_out_first(float_run, broken_kernel):
  found = sensitivity.measure(float_run, sensitivity.Options(
      **{**vars(_EIGHT_BITS), 'checkpoint': broken_kernel}))
  assert found.complete
  first, second = sensitivity.rank(found.records)[:2]
  assert first.layer == damage.KERNEL
  assert first.drop > 0.3 > second.drop
  best = max(found.gains, key=lambda gain: gain.gain)
  assert best.layer == damage.KERNEL
  assert best.gain > 0.3
  assert found.float_metric - found.quantized_metric == pytest.approx(
      first.drop, abs=0.1)


def test_a_budget_stops_and_the_same_call_goes_on(
    twin, tmp_path, monkeypatch):
  study = study_lib.Study(twin, 'validation', 60)
  clock = itertools.count()
  monkeypatch.setattr(sensitivity.time, 'monotonic', lambda: float(next(clock)))
  path = str(tmp_path / 'journal.jsonl')
  # Two ticks an item, so that the fourth would end after the deadline.
  first = sensitivity.of_study(study, _EIGHT_BITS, path, deadline=6.0)
  assert not first.complete
  assert len(first.records) == 3
  with open(path, 'a') as f:
    f.write('{"layer": "tor')  # Killed while it wrote.
  rest = sensitivity.of_study(study, _EIGHT_BITS, path)
  assert rest.complete and rest.num_kept == 3
  assert rest.records[:3] == first.records
  again = sensitivity.of_study(study, _EIGHT_BITS)
  assert again.records == rest.records and again.gains == rest.gains


def test_results_of_other_options_are_not_mixed(tmp_path):
  path = str(tmp_path / 'journal.jsonl')
  journal.Journal(path, {'images': 8}).add({'layer': 'a'})
  assert journal.Journal(path, {'images': 8}).items == [{'layer': 'a'}]
  other = journal.Journal(path, {'images': 16})
  assert not other.items and other.restarted


def test_what_results_depend_on_names_checkpoint_data_and_images(twin):
  identity = twin.identity('validation', 64)
  assert identity['num_images'] == 64
  assert identity['shards'] and identity['shards'][0][1] > 0
  assert len(identity['fingerprint']) == 16
  assert identity != twin.identity('test', 64)


@pytest.mark.parametrize('text, message', [
    ('quantisation:4', "did you mean 'quantization'"),
    ('quantization:9', 'bits, 2 to 8'),
    ('quantization', 'as in quantization:4'),
    ('pruning:1.0', 'share of zeros'),
    ('clustering:x', 'distinct weights')])
def test_a_treatment_that_is_none_is_refused(text, message):
  with pytest.raises(errors.UsageError, match=message):
    treatments.parse(text)


def test_ranges_of_a_quantized_run_are_its_own(qat_run):
  with pytest.raises(errors.UsageError, match='params_override'):
    subject.load(qat_run, params_override='task.quantization.low_bit=all')
