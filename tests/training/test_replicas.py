"""Two and four replicas train, resume, save and export what one replica does.

See `equivalence` for the runs and the tolerances; `test_replicas_of_ranges` and
`test_replicas_of_weights` compare two with one. What a broken aggregation
would give: ranges of one replica's images instead of all of them (digits have
the same extremes in any half of a batch, so images of two contrasts show it); a
table that one replica updates alone leaves the others with other kernels. Both
are shown by breaking it.
"""

import subprocess
import sys
from unittest import mock

import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf

from modelgarden_opt.compression import replicas as replicas_lib
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.evaluation import inspection
from modelgarden_opt.export import exporter
from modelgarden_opt.training import experiment
from modelgarden_opt.training import strategies
from tests import conftest
from tests.training import equivalence

ONE, TWO = equivalence.RUNTIMES[1], equivalence.RUNTIMES[2]


@pytest.mark.slow  # Four replicas share a batch in the same way as two.
def test_four_replicas_are_one(trained, data_dir, source_run, tmp_path):
  """In a process of their own, whose collective ops know four replicas."""
  job = equivalence.write_job(
      equivalence.TECHNIQUES, trained, source_run, data_dir, tmp_path,
      {**TWO, 'num_logical_cpus': 4})
  subprocess.run([sys.executable, '-m', 'tests.training.cluster_job', job],
                 check=True, cwd=conftest.REPOSITORY)
  for technique in equivalence.TECHNIQUES:
    equivalence.assert_like_one(technique, str(tmp_path / technique), trained)


def test_a_replica_may_get_no_image_of_the_last_batch(tiny_params):
  params = tiny_params('mobilenet_v2', {'runtime': TWO}, {
      'task': {'model': equivalence.MODEL}})
  strategy = strategies.get_strategy(params)
  with strategy.scope():
    task = task_factory.get_task(params.task)
    model = task.build_model()
  images = np.random.default_rng(0).normal(
      size=[3, *params.task.model.input_size]).astype(np.float32)
  shares = strategy.experimental_distribute_values_from_function(
      lambda context: tf.constant(
          images[:0] if context.replica_id_in_sync_group else images))

  @tf.function
  def run():
    return strategy.run(task.inference_step, (shares, model))
  some, none = strategy.experimental_local_results(run())
  np.testing.assert_allclose(
      some, model(images, training=False), rtol=1e-4, atol=1e-4)
  assert none.shape == (0, params.task.model.num_classes)


def _ranges(tiny_params, runtime, images, weights=None):
  """Returns the ends of all ranges after a step on images, and the weights.

  Args:
    tiny_params: The fixture.
    runtime: The `runtime:` block.
    images: float32 [2, n, h, w, c]; two replicas get a half each.
    weights: Those of the model; None for new ones.
  """
  params = tiny_params(
      'mobilenet_v2_qat', {'runtime': runtime}, {'task': {
          'model': {**equivalence.MODEL,
                    'norm_activation': {'use_sync_bn': True}},
          'quantization': {'range_momentum': 0.0}}})
  strategy = strategies.get_strategy(params)
  with strategy.scope():
    model = task_factory.get_task(params.task).build_model()
  if weights is not None:
    model.set_weights(weights)
  weights = model.get_weights()
  shares = strategy.experimental_distribute_values_from_function(
      lambda context: tf.constant(images[context.replica_id_in_sync_group])
  ) if strategy.num_replicas_in_sync == 2 else tf.concat([*images], 0)
  step = tf.function(lambda: strategy.run(
      lambda share: model(share, training=True), (shares,)))
  step()
  return [v.numpy() for v in model.variables
          if 'quantized_' in v.name], weights


def test_ranges_that_are_not_joined_are_far_off(tiny_params):
  images = np.random.default_rng(0).normal(
      size=[2, 4, 32, 32, 3]).astype(np.float32) * np.reshape(
          np.float32([1.0, 3.0]), [2, 1, 1, 1, 1])
  one, weights = _ranges(tiny_params, ONE, images)
  two, _ = _ranges(tiny_params, TWO, images, weights)
  with mock.patch.object(replicas_lib, 'largest', lambda values: values):
    broken, _ = _ranges(tiny_params, TWO, images, weights)
  assert len(one) >= 10
  right, wrong = ([equivalence.distance(end, value)
                   for end, value in zip(found, one, strict=True) if value]
                  for found in (two, broken))
  # The last ones have seen values that round to another step.
  assert np.median(right) < equivalence.MAX_FLOAT / 10
  assert min(wrong) > 5 * max(right) and min(wrong) > 0.2


def _first_only(variables, change):
  """`replicas.update` that forgets all replicas but the first."""
  def on_first(strategy):
    for index, variable in enumerate(variables):
      copy = strategy.experimental_local_results(variable)[0]
      with tf.device(copy.device):
        change(index, copy)

  tf.distribute.get_replica_context().merge_call(on_first)


def test_tables_of_one_replica_leave_the_other_behind(
    make_params, trained, tmp_path):
  with mock.patch.object(replicas_lib, 'update', _first_only), (
      pytest.raises(AssertionError, match='kernel')), (
          equivalence.copies_compared()):
    experiment.run_experiment(
        make_params('clustering', TWO, 2, trained('pruning', 1)[0]), 'train',
        str(tmp_path))


@pytest.mark.parametrize('technique', [
    pytest.param(name, marks=pytest.mark.slow) if name == 'pcqat' else name
    for name in equivalence.EVALUATED])
def test_the_file_of_two_replicas_is_as_accurate_as_their_evaluation(
    technique, trained, tmp_path):
  model_dir, logs = trained(technique, 2)
  path, expected = str(tmp_path / 'two.tflite'), str(tmp_path / 'one.tflite')
  file_format = 'float32' if technique == 'float' else 'int8'
  exporter.export(model_dir, file_format, path, checkpoint='latest')
  exporter.export(trained(technique, 1)[0], file_format, expected,
                  checkpoint='latest')
  for two, one in zip(inspection.kernels(path), inspection.kernels(expected),
                      strict=True):
    assert two.values.dtype == one.values.dtype
    assert equivalence.distance(
        two.values.astype(float), one.values.astype(float)) < (
            equivalence.MAX_FLOAT if technique == 'float' else
            3 * equivalence.MAX_QUANTIZED), one.name
  keras, file = evaluate.evaluate(
      model_dir, [path], 'validation', checkpoint='latest')
  assert keras['metrics']['top_1_accuracy'] == pytest.approx(logs['accuracy'])
  assert file['metrics']['top_1_accuracy'] == pytest.approx(
      logs['accuracy'], abs=1.5 / equivalence.NUM_VALIDATION)


def test_statistics_of_replicas_are_saved_as_they_were_evaluated(
    make_params, tmp_path):
  """Without synchronization every replica averages its own batches."""
  params = make_params(
      'float', TWO, 2,
      task={'model': {'norm_activation': {
          'use_sync_bn': False, 'norm_momentum': 0.1}}},
      trainer={'checkpoint_interval': 2, 'validation_interval': 2})
  trained_logs = experiment.run_experiment(
      params, 'train_and_eval', str(tmp_path))
  logs = experiment.run_experiment(params, 'eval', str(tmp_path))
  assert logs['validation_loss'] == pytest.approx(
      trained_logs['validation_loss'], rel=1e-6)
