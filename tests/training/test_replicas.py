"""Two replicas train, resume, save and export what one replica does.

The global batch is the same, batch normalization is synchronized, and the data
is deterministic. So masks and assignments are equal, and everything else is up
to the order of float32 sums: after eight steps weights differ by about 1e-5. If
each replica went by its own half of the batch, ranges would differ by several
percent (`test_replicas_that_do_not_agree_are_far_off`).
"""

import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf

from modelgarden_opt.compression import replicas as replicas_lib
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.export import exporter
from modelgarden_opt.training import experiment
from modelgarden_opt.training import strategies

ONE = {'distribution_strategy': 'off'}
TWO = {'distribution_strategy': 'mirrored', 'num_logical_cpus': 2}
STEPS = 8
_MODEL = {'backbone': {'mobilenet': {'model_id': 'Tiniest'}}}
_PRUNING = {'begin_step': 2, 'end_step': 6, 'frequency': 2,
            'final_sparsity': 0.5}
_CLUSTERS = {'number_of_clusters': 8}
# Experiment, what it starts from, blocks.
TECHNIQUES = {
    'float': ('mobilenet_v2', None, {}),
    'qat': ('mobilenet_v2_qat', None, {
        'quantization': {'freeze_ranges_step': 6}}),
    'qat_4_bits': ('mobilenet_v2_qat', None, {'quantization': {
        'change_num_bits': True, 'num_bits_weight': 4, 'low_bit': 'all',
        'weight_range': 'learned', 'oscillation': 'freeze',
        'oscillation_momentum': 0.3, 'freezing_threshold': 0.2}}),
    'pruning': ('mobilenet_v2_pruning', None, {'pruning': _PRUNING}),
    'n_of_m': ('mobilenet_v2_pruning', None, {'pruning': {
        **_PRUNING, 'final_sparsity': None, 'sparsity_m_by_n': [2, 4]}}),
    'channel': ('mobilenet_v2_pruning', None, {'pruning': {
        'granularity': 'channel', 'importance': 'taylor',
        'importance_steps': 2, 'keep_ratio': 0.7, 'batch_norm_steps': 2}}),
    'clustering': ('mobilenet_v2_clustering', 'pruning', {'clustering': {
        **_CLUSTERS, 'preserve_sparsity': True}}),
    # Its chain holds those of pqat and cqat.
    'pcqat': ('mobilenet_v2_pcqat', 'clustering', {
        'pruning': {}, 'clustering': _CLUSTERS}),
}


# Whose two replicas are interrupted half-way and resumed, and who is evaluated.
RESUMED = ('pruning', 'pcqat')
EVALUATED = ('float', 'qat', 'pcqat')
# Largest difference as a share of the largest value. A float32 sum that differs
# in its last bit may round to another step of a grid, 1/255 of a range.
MAX_FLOAT, MAX_QUANTIZED = 1e-3, 1e-2


def _params(tiny_params, technique, source, runtime, steps):
  experiment, _, blocks = TECHNIQUES[technique]
  start = {'pretrained_original_checkpoint': source}
  start = {block: start for block in blocks} or {'init_checkpoint': source}
  return tiny_params(
      experiment, {'runtime': runtime}, {'task': start}, {'task': blocks},
      {'task': {'model': {**_MODEL, 'dropout_rate': 0.0,
                          'norm_activation': {'use_sync_bn': True}},
                'train_data': {'random_affine': {'translate': 0.1}}},
       'trainer': {
           'train_steps': steps, 'steps_per_loop': min(steps, 2),
           'checkpoint_interval': 2, 'validation_interval': 4,
           'summary_interval': 2,
           'optimizer_config': {
               'optimizer': {'type': 'sgd', 'sgd': {'momentum': 0.9}},
               'learning_rate': {'constant': {'learning_rate': 0.001}}}}})


@pytest.fixture(scope='module')
def source_run(tiny_params, tmp_path_factory):
  """A float run directory of 60 steps, which all others start from."""
  model_dir = str(tmp_path_factory.mktemp('source'))
  experiment.run_experiment(tiny_params(
      'mobilenet_v2', {'task': {'model': _MODEL},
                       'trainer': {'train_steps': 60}}), 'train', model_dir)
  return model_dir


@pytest.fixture(scope='module')
def trained(tiny_params, source_run, tmp_path_factory):
  """Returns `get(technique, replicas)`: run directory and last metrics."""
  found = {}

  def get(technique, replicas):
    if (technique, replicas) not in found:
      model_dir = str(tmp_path_factory.mktemp(technique))
      source = TECHNIQUES[technique][1]
      source = get(source, 1)[0] if source else source_run
      runtime = ONE if replicas == 1 else TWO
      mode = 'train_and_eval' if technique in EVALUATED else 'train'
      interrupted = replicas == 2 and technique in RESUMED
      for steps in [STEPS // 2] * interrupted + [STEPS]:
        logs = experiment.run_experiment(
            _params(tiny_params, technique, source, runtime, steps), mode,
            model_dir)
      found[technique, replicas] = model_dir, logs
    return found[technique, replicas]

  return get


def _distance(a, b):
  return np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 0.1)


def _variables(model_dir, step=STEPS):
  """Returns the variables of the model in the last checkpoint by name."""
  reader = tf.train.load_checkpoint(f'{model_dir}/ckpt-{step}')
  return {name: reader.get_tensor(name)
          for name in reader.get_variable_to_shape_map()
          if name.endswith('/.ATTRIBUTES/VARIABLE_VALUE')
          and not name.startswith(('optimizer', 'save_counter'))
          and '.OPTIMIZER_SLOT' not in name}


def test_a_replica_may_get_no_image_of_the_last_batch(tiny_params):
  params = tiny_params('mobilenet_v2', {'runtime': TWO}, {
      'task': {'model': _MODEL}})
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


@pytest.mark.parametrize('technique', TECHNIQUES)
def test_two_replicas_are_one(technique, trained):
  one, expected_logs = trained(technique, 1)
  two, logs = trained(technique, 2)
  # Rounding flips grow from step to step; what they cannot change is compared
  # at the end.
  quantized = 'qat' in technique
  expected, actual = _variables(one), _variables(two)
  early = 2 if quantized else STEPS
  floats, found = _variables(one, early), _variables(two, early)
  assert expected.keys() == actual.keys() and len(expected) >= 27
  for name, value in expected.items():
    if value.dtype == np.int8:  # Integers of weights, or how they changed.
      assert np.mean(actual[name] != value) < MAX_QUANTIZED, name
    elif value.dtype != np.float32 or 'pruning_mask' in name:
      np.testing.assert_array_equal(actual[name], value, err_msg=name)
    else:
      assert _distance(found[name], floats[name]) < (
          MAX_QUANTIZED if quantized else MAX_FLOAT), name
  if technique in EVALUATED:
    assert logs['accuracy'] == pytest.approx(
        expected_logs['accuracy'], abs=3.5 / 180)


def test_replicas_that_do_not_agree_are_far_off(
    tiny_params, source_run, trained, tmp_path, monkeypatch):
  """What the tolerances would have to hide: each replica has its own ranges."""
  right = _variables(trained('qat', 2)[0], 2)
  monkeypatch.setattr(replicas_lib, 'largest', lambda values: values)
  experiment.run_experiment(
      _params(tiny_params, 'qat', source_run, TWO, 2), 'train', str(tmp_path))
  broken = _variables(str(tmp_path), 2)
  assert max(_distance(broken[name], value) for name, value in right.items()
             if 'quantized_' in name) > 5 * MAX_QUANTIZED


@pytest.mark.parametrize('technique', EVALUATED)
def test_the_file_of_two_replicas_is_as_accurate_as_their_evaluation(
    technique, trained, tmp_path):
  model_dir, logs = trained(technique, 2)
  path = str(tmp_path / 'model.tflite')
  file_format = 'float32' if technique == 'float' else 'int8'
  exporter.export(model_dir, file_format, path, checkpoint='latest')
  keras, file = evaluate.evaluate(
      model_dir, [path], 'validation', checkpoint='latest')
  assert keras['metrics']['top_1_accuracy'] == pytest.approx(logs['accuracy'])
  assert file['metrics']['top_1_accuracy'] == pytest.approx(
      logs['accuracy'], abs=1.5 / 180)


def test_statistics_of_replicas_are_saved_as_they_were_evaluated(
    tiny_params, source_run, tmp_path):
  """Without synchronization every replica averages its own batches."""
  params = _params(tiny_params, 'float', source_run, TWO, 2)
  params.override({
      'task': {'model': {'norm_activation': {
          'use_sync_bn': False, 'norm_momentum': 0.1}}},
      'trainer': {'checkpoint_interval': 2, 'validation_interval': 2}})
  trained_logs = experiment.run_experiment(
      params, 'train_and_eval', str(tmp_path))
  logs = experiment.run_experiment(params, 'eval', str(tmp_path))
  assert logs['validation_loss'] == pytest.approx(
      trained_logs['validation_loss'], rel=1e-6)
