"""Runs of every technique whose result does not depend on who shares the work.

The global batch is the same, batch normalization is synchronized, and the data
is deterministic: one file, read in its order, of which worker i of n reads the
records i, i + n, ... So every global batch has the same images, whoever trains
on which of them. What is left is the order of float32 sums.
"""

import contextlib
import glob
import os
from unittest import mock

import numpy as np
import tensorflow as tf

from modelgarden_opt import files
from modelgarden_opt.configs import overrides
from modelgarden_opt.data import embedded
from modelgarden_opt.training import metrics
from modelgarden_opt.training import runner
from tests import tiny

STEPS = 8
# Of one and of two replicas.
RUNTIMES = {1: {'distribution_strategy': 'off'},
            2: {'distribution_strategy': 'mirrored', 'num_logical_cpus': 2}}
MODEL = {'backbone': {'mobilenet': {'model_id': 'Tiniest'}}}
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
    'qat_folded': ('mobilenet_v2_qat', None, {'quantization': {
        'fold_batch_norm': True, 'bias_correction': True,
        'calibration_steps': 2, 'calibration_method': 'mse',
        'batch_norm_steps': 2}}),
    'pruning': ('mobilenet_v2_pruning', None, {'pruning': _PRUNING}),
    'n_of_m': ('mobilenet_v2_pruning', None, {'pruning': {
        **_PRUNING, 'final_sparsity': None, 'sparsity_m_by_n': [2, 4]}}),
    'channel': ('mobilenet_v2_pruning', None, {'pruning': {
        'granularity': 'channel', 'importance': 'taylor',
        'importance_steps': 2, 'keep_ratio': 0.7, 'batch_norm_steps': 2}}),
    'clustering': ('mobilenet_v2_clustering', 'pruning', {'clustering': {
        **_CLUSTERS, 'preserve_sparsity': True}}),
    'pqat': ('mobilenet_v2_pqat', 'pruning', {'pruning': {}}),
    'cqat': ('mobilenet_v2_cqat', 'clustering', {'clustering': _CLUSTERS}),
    'pcqat': ('mobilenet_v2_pcqat', 'clustering', {
        'pruning': {}, 'clustering': _CLUSTERS}),
}
# Two files of tests, which two processes can run at the same time.
OF_RANGES = ('float', 'qat', 'qat_4_bits', 'qat_folded', 'channel')
OF_WEIGHTS = tuple(name for name in TECHNIQUES if name not in OF_RANGES)
# Whose two replicas are interrupted half-way and resumed.
RESUMED = ('pcqat',)
# Whose runs are evaluated, and so keep a best checkpoint.
EVALUATED = ('float', 'qat', 'pcqat')
# Largest difference as a share of the largest value. A float32 sum that differs
# in its last bit may round to another step of a grid, 1/255 of a range.
MAX_FLOAT, MAX_QUANTIZED = 1e-3, 1e-2
# Images of the validation split.
NUM_VALIDATION = 180


def make_data(data_dir: str) -> str:
  """Returns the path of one file with all training images; made if absent."""
  directory = embedded.ensure('digits', data_dir)
  path = os.path.join(data_dir, 'all_digits.tfrecord')
  if not os.path.exists(path):
    temporary = f'{path}.{os.getpid()}'
    with tf.io.TFRecordWriter(temporary) as writer:
      for shard in sorted(glob.glob(f'{directory}/train-*.tfrecord')):
        for record in tf.data.TFRecordDataset(shard):
          writer.write(record.numpy())
    os.replace(temporary, path)
  return path


def make_params(data_dir, technique, source, runtime, steps, **more):
  """Returns the configuration of a run.

  Args:
    data_dir: Directory of the embedded data.
    technique: Key of `TECHNIQUES`.
    source: The run directory that it starts from.
    runtime: The `runtime:` block.
    steps: Training steps.
    **more: Blocks of further overrides.
  """
  experiment, _, blocks = TECHNIQUES[technique]
  start = {'pretrained_original_checkpoint': source}
  start = {block: start for block in blocks} or {'init_checkpoint': source}
  params = overrides.base(experiment)
  params.task.name = experiment
  for override in (
      tiny.overrides(data_dir), {'runtime': runtime}, {'task': start},
      {'task': blocks},
      {'task': {
          'model': {**MODEL, 'dropout_rate': 0.0,
                    'norm_activation': {'use_sync_bn': True}},
          'train_data': {
              'embedded_name': '', 'embedded_split': '',
              'input_path': make_data(data_dir), 'decode_jpeg_only': False,
              'shuffle_buffer_size': 1, 'random_affine': {'translate': 0.1}}},
       'trainer': {
           'train_steps': steps, 'steps_per_loop': min(steps, 2),
           'checkpoint_interval': 2, 'validation_interval': 4,
           'summary_interval': 2,
           'optimizer_config': {
               'optimizer': {'type': 'sgd', 'sgd': {'momentum': 0.9}},
               'learning_rate': {'constant': {'learning_rate': 0.001}}}}},
      more):
    params.override(override)
  return params


@contextlib.contextmanager
def copies_compared():
  """Asserts at the end of a run that all replicas have the same variables."""
  run = runner.Runner.run

  def compare(self):
    model, logs = run(self)
    for variable in model.variables:
      first, *others = [v.numpy() for v in (
          self.strategy.experimental_local_results(variable))]
      for other in others:
        np.testing.assert_array_equal(other, first, err_msg=variable.name)
    return model, logs

  with mock.patch.object(runner.Runner, 'run', compare):
    yield


def variables(model_dir: str, step: int = STEPS) -> dict[str, np.ndarray]:
  """Returns the variables of the model in a checkpoint by name."""
  reader = tf.train.load_checkpoint(f'{model_dir}/ckpt-{step}')
  return {name: reader.get_tensor(name)
          for name in reader.get_variable_to_shape_map()
          if name.endswith('/.ATTRIBUTES/VARIABLE_VALUE')
          and not name.startswith((
              'optimizer', 'save_counter', 'checkpointed_runs'))
          and '.OPTIMIZER_SLOT' not in name}


def distance(a: np.ndarray, b: np.ndarray) -> float:
  """Returns the largest difference as a share of the largest value of b."""
  return np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 0.1)


def assert_equal(technique: str, actual_dir: str, expected_dir: str) -> None:
  """Asserts that two runs trained the same.

  Masks, assignments and shapes are equal to the bit; floats within the
  tolerances, quantized ones after two steps, since a rounding that flips grows
  from step to step.
  """
  quantized = 'qat' in technique
  expected, actual = variables(expected_dir), variables(actual_dir)
  early = 2 if quantized else STEPS
  floats, found = variables(expected_dir, early), variables(actual_dir, early)
  assert expected.keys() == actual.keys() and len(expected) >= 27
  for name, value in expected.items():
    assert actual[name].shape == value.shape, name
    if value.dtype == np.int8:  # Integers of weights, or how they changed.
      assert np.mean(actual[name] != value) < MAX_QUANTIZED, name
    elif value.dtype != np.float32 or 'pruning_mask' in name:
      np.testing.assert_array_equal(actual[name], value, err_msg=name)
    else:
      assert distance(found[name], floats[name]) < (
          MAX_QUANTIZED if quantized else MAX_FLOAT), name


def assert_like_one(technique: str, model_dir: str, trained) -> None:
  """Asserts that a run trained what one replica does.

  Args:
    technique: Key of `TECHNIQUES`.
    model_dir: The run directory.
    trained: The fixture.
  """
  one, expected = trained(technique, 1)
  assert_equal(technique, model_dir, one)
  if technique in EVALUATED:
    assert_evaluated_equally(
        model_dir, one, metrics.read(model_dir)[-1], expected)


def write_job(techniques, trained, source_run, data_dir, directory,
              runtime) -> str:
  """Writes what `cluster_job` trains below a directory; returns its path."""
  runs = []
  for technique in techniques:
    start = TECHNIQUES[technique][1]
    runs.append({
        'technique': technique, 'model_dir': str(directory / technique),
        'source': trained(start, 1)[0] if start else source_run,
        'mode': 'train_and_eval' if technique in EVALUATED else 'train'})
  path = str(directory / 'job.json')
  files.write_json(
      path, {'data_dir': data_dir, 'runs': runs, 'runtime': runtime})
  return path


def assert_evaluated_equally(
    actual_dir: str, expected_dir: str, actual: dict, expected: dict) -> None:
  """Asserts that two runs found the same metrics and the same best checkpoint.

  Args:
    actual_dir: A run directory.
    expected_dir: Another one.
    actual: The metrics of its last evaluation.
    expected: Those of the other one.
  """
  image = 1.0 / NUM_VALIDATION
  for name in ('accuracy', 'top_5_accuracy'):
    # After eight steps of other rounding a few images may be on the other side.
    assert abs(actual[name] - expected[name]) < 3.5 * image, name
  found, best = (files.read_json(f'{d}/best_ckpt/info.json')
                 for d in (actual_dir, expected_dir))
  assert abs(found['accuracy'] - best['accuracy']) < 3.5 * image
  if found['accuracy'] == best['accuracy']:
    assert found['best_ckpt_global_step'] == best['best_ckpt_global_step']
