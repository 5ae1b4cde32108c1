"""Two replicas train, resume, save and export what one replica does.

The global batch is the same, batch normalization is synchronized, and the data
is deterministic. So masks and assignments are equal, and everything else is up
to the order of float32 sums: after eight steps weights differ by about 1e-5. If
each replica went by its own half of the batch, ranges would differ by several
percent (`test_halves_of_a_batch_have_other_ranges`).
"""

import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf

from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.export import tflite as export
from modelgarden_opt.modeling import calibration
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import run

ONE = {'distribution_strategy': 'off'}
TWO = {'distribution_strategy': 'mirrored', 'num_logical_cpus': 2}
STEPS = 8
_PRUNING = {'begin_step': 2, 'end_step': 6, 'frequency': 2,
            'final_sparsity': 0.5}
_CLUSTERS = {'number_of_clusters': 8}
_KEPT = {'clustering': _CLUSTERS}
# Experiment, what it starts from, blocks.
TECHNIQUES = {
    'float': ('mobilenet_v2', None, {}),
    'qat': ('mobilenet_v2_qat', None, {
        'quantization': {'freeze_ranges_step': 6}}),
    'pruning': ('mobilenet_v2_pruning', None, {'pruning': _PRUNING}),
    'n_of_m': ('mobilenet_v2_pruning', None, {'pruning': {
        **_PRUNING, 'final_sparsity': None, 'sparsity_m_by_n': [2, 4]}}),
    'channel': ('mobilenet_v2_pruning', None, {'pruning': {
        'granularity': 'channel', 'importance': 'taylor',
        'importance_steps': 2, 'keep_ratio': 0.7, 'batch_norm_steps': 2}}),
    'clustering': ('mobilenet_v2_clustering', 'pruning', {'clustering': {
        **_CLUSTERS, 'preserve_sparsity': True}}),
    'pqat': ('mobilenet_v2_pqat', 'pruning', {'pruning': {}}),
    'cqat': ('mobilenet_v2_cqat', 'clustering', _KEPT),
    'pcqat': ('mobilenet_v2_pcqat', 'clustering', {'pruning': {}, **_KEPT}),
}


@pytest.fixture(scope='module')
def trained(tiny_params, float_run, tmp_path_factory):
  """Returns `get(technique, replicas)`: run directory and last metrics.

  Two replicas are interrupted half-way and resumed.
  """
  found = {}

  def get(technique, replicas):
    if (technique, replicas) not in found:
      model_dir = str(tmp_path_factory.mktemp(technique))
      for steps in {1: [STEPS], 2: [STEPS // 2, STEPS]}[replicas]:
        logs = run.run_experiment(
            params(technique, replicas, steps), 'train_and_eval', model_dir)
      found[technique, replicas] = model_dir, logs
    return found[technique, replicas]

  def params(technique, replicas, steps):
    experiment, source, blocks = TECHNIQUES[technique]
    source = get(source, 1)[0] if source else float_run
    start = {'pretrained_original_checkpoint': source}
    start = {block: start for block in blocks} or {'init_checkpoint': source}
    return tiny_params(
        experiment, {'runtime': ONE if replicas == 1 else TWO},
        {'task': start}, {'task': blocks},
        {'task': {'model': {'dropout_rate': 0.0,
                            'norm_activation': {'use_sync_bn': True}},
                  'train_data': {'random_affine': {'translate': 0.1}}},
         'trainer': {
             'train_steps': steps, 'steps_per_loop': 2,
             'checkpoint_interval': 4, 'validation_interval': 4,
             'summary_interval': 2,
             'optimizer_config': {
                 'optimizer': {'type': 'sgd', 'sgd': {'momentum': 0.9}},
                 'learning_rate': {'constant': {'learning_rate': 0.001}}}}})

  return get


def _variables(model_dir):
  """Returns the variables of the model in the last checkpoint by name."""
  reader = tf.train.load_checkpoint(f'{model_dir}/ckpt-{STEPS}')
  return {name: reader.get_tensor(name)
          for name in reader.get_variable_to_shape_map()
          if name.endswith('/.ATTRIBUTES/VARIABLE_VALUE')
          and not name.startswith(('optimizer', 'save_counter'))
          and '.OPTIMIZER_SLOT' not in name}


@pytest.mark.parametrize('technique', TECHNIQUES)
def test_two_replicas_are_one(technique, trained):
  one, expected_logs = trained(technique, 1)
  two, logs = trained(technique, 2)
  expected, actual = _variables(one), _variables(two)
  assert expected.keys() == actual.keys() and len(expected) > 30
  for name, value in expected.items():
    if value.dtype != np.float32 or 'pruning_mask' in name:
      np.testing.assert_array_equal(actual[name], value, err_msg=name)
      continue
    # A sum that differs in its last bit can round to the next step of a grid,
    # which moves the largest value of a later layer by a part of its step.
    rtol = 2e-3 if 'quantized_' in name else 5e-4
    np.testing.assert_allclose(
        actual[name], value, rtol=rtol, atol=1e-4, err_msg=name)
  assert logs['accuracy'] == pytest.approx(
      expected_logs['accuracy'], abs=1.5 / 180)


def test_halves_of_a_batch_have_other_ranges(trained, tiny_params):
  """What the tolerances above would have to hide if replicas did not agree."""
  model = run_directory.load(trained('qat', 1)[0], 'latest').model
  params = tiny_params('mobilenet_v2')
  task = task_factory.get_task(params.task)
  images, _ = next(iter(task.build_inputs(params.task.train_data)))
  found = [quantizer for quantizer in calibration.quantizers_of(model)
           if getattr(quantizer, 'maximum', None) is not None
           and isinstance(quantizer.maximum, tf.Variable)]
  ends = []
  for half in (images[:16], images[16:]):
    calibration.calibrate(model, tf.data.Dataset.from_tensors((half, 0)))
    ends.append(np.array([float(quantizer.maximum) for quantizer in found]))
  differences = np.abs(ends[0] - ends[1]) / np.maximum(*ends)
  assert np.median(differences) > 0.02, differences


@pytest.mark.parametrize('technique', ['float', 'qat', 'pcqat'])
def test_the_file_of_two_replicas_is_as_accurate_as_their_evaluation(
    technique, trained, tmp_path):
  model_dir, logs = trained(technique, 2)
  path = str(tmp_path / 'model.tflite')
  export.export(model_dir, 'float32' if technique == 'float' else 'int8', path,
                checkpoint='latest')
  keras, file = evaluate.evaluate(
      model_dir, [path], 'validation', checkpoint='latest')
  assert keras['metrics']['top_1_accuracy'] == pytest.approx(logs['accuracy'])
  assert file['metrics']['top_1_accuracy'] == pytest.approx(
      logs['accuracy'], abs=1.5 / 180)
