"""A candidate as a pipeline: it resolves, and says what the candidate says."""

import pytest

from modelgarden_opt.pipeline import checking
from modelgarden_opt.pipeline import commands
from modelgarden_opt.pipeline import stages
from modelgarden_opt.search import space
from modelgarden_opt.search import writing
from modelgarden_opt.tasks import run_directory

_PATHS = ('backbone/conv2dbn_block_0/conv0',
          'backbone/inverted_bottleneck_block_1/conv0',
          'backbone/inverted_bottleneck_block_1/conv1', 'dense_0')
_CHANNEL = space.Family()
_TENSOR = space.Family(space.PER_TENSOR)
_TAUGHT = space.Family(space.PER_TENSOR, 1.0, teacher=True)


def _config(float_run, family, *choices, **settings):
  """Returns pipeline and configuration of a candidate of four layers."""
  writer = writing.Writer(writing.Settings(model_dir=float_run, **settings))
  values = writer.of(space.Candidate(
      'c', family, dict(zip(_PATHS, choices, strict=True))), 'validation')
  pipeline = stages.parse(values)
  configs = checking.resolve(pipeline)
  checking.assert_models(pipeline, configs)  # Every rule matches a layer.
  return pipeline, configs[writing.TRIAL]


def test_model_and_data_are_those_of_the_float_run(float_run):
  pipeline, config = _config(float_run, space.Family(), *4 * [space.Choice()])
  found, before = (run_directory.as_plain(c) for c in (
      config, run_directory.load_params(float_run)))
  for name in ('model', 'train_data', 'validation_data', 'test_data', 'losses'):
    assert found['task'][name] == before['task'][name], name
  assert found['runtime'] == before['runtime']
  assert found['task']['train_data']['seed'] == 7
  block = config.task.quantization
  assert not block.training and not block.rules and config.task.pruning is None
  float_step, trial, *_ = commands.steps(pipeline, '/out', '')
  assert not float_step.commands
  assert trial.config[1]['task']['quantization'][
      'pretrained_original_checkpoint'] == float_step.outputs[0]


def test_bits_zeros_and_scales_become_rules(float_run):
  four = space.Choice(4)
  _, config = _config(
      float_run, _TENSOR, space.Choice(), space.Choice(4, 0.8), four, four)
  block = config.task.quantization
  assert (block.weight_granularity, block.fold_batch_norm, block.weight_range,
          block.rounding) == ('per_tensor', True, 'mse', 'adaround')
  assert [(r.path, r.num_bits_weight) for r in block.rules] == [
      ('*', 4), (_PATHS[0], 8)]
  pruning = config.task.pruning
  assert [(r.path, r.enabled, r.final_sparsity) for r in pruning.rules] == [
      ('*', False, None), (_PATHS[1], True, 0.8)]


def test_kernels_in_float_and_clusters_become_rules(float_run):
  _, config = _config(
      float_run, space.Family(), space.Choice(32), space.Choice(),
      space.Choice(), space.Choice(8, clusters=16))
  assert [(r.path, r.enabled, r.num_bits_weight)
          for r in config.task.quantization.rules] == [
              ('*', True, 8), (_PATHS[0], False, None)]
  assert [(r.path, r.enabled) for r in config.task.clustering.rules] == [
      ('*', False), (_PATHS[3], True)]


@pytest.mark.parametrize('train_steps', [0, 40])
def test_zeros_are_made_in_a_stage_before_clusters(float_run, train_steps):
  pipeline, config = _config(
      float_run, _CHANNEL, space.Choice(), space.Choice(8, 0.8, 16),
      space.Choice(), space.Choice(clusters=8), train_steps=train_steps)
  names = [training.name for training in pipeline.trainings]
  assert names == [writing.FLOAT, writing.ZEROS, writing.TRIAL]
  assert pipeline.trainings[2].source == writing.ZEROS
  assert pipeline.variants == ['trial_int8']
  zeros = checking.resolve(pipeline)[writing.ZEROS].task
  assert zeros.clustering is None
  assert [(r.path, r.enabled) for r in zeros.pruning.rules] == [
      ('*', False), (_PATHS[1], True)]
  task = config.task
  assert task.pruning.pruning_schedule == 'Preserve'
  assert [(r.path, r.enabled) for r in task.pruning.rules] == [
      ('*', False), (_PATHS[1], True)]
  assert task.clustering.preserve_sparsity
  assert {(r.path, r.number_of_clusters) for r in task.clustering.rules
          if r.enabled} == {(_PATHS[1], 16), (_PATHS[3], 8)}


def test_fine_tuning_follows_the_recipe(float_run):
  choices = [space.Choice(), *3 * [space.Choice(4, 0.5)]]
  pipeline, config = _config(
      float_run, _TAUGHT, *choices, train_steps=40, seed=3)
  assert config.trainer.train_steps == 40
  rate = config.trainer.optimizer_config.learning_rate.cosine
  assert (rate.initial_learning_rate, rate.decay_steps) == (0.003 / 8, 40)
  assert config.task.pruning.end_step == 24
  assert config.task.train_data.seed == 3
  block = config.task.quantization
  assert (block.training, block.weight_range, block.rounding,
          block.freeze_batch_norm_step) == (True, 'learned', 'nearest', 0)
  assert pipeline.trainings[1].teacher == writing.FLOAT


def test_removed_channels_stand_beside_quantization(float_run):
  _, config = _config(
      float_run, space.Family(keep=0.5), *4 * [space.Choice()])
  assert (config.task.pruning.granularity, config.task.pruning.keep_ratio) == (
      'channel', 0.5)


@pytest.mark.parametrize('below,above,expected', [
    ({'a': 1, 'b': {'c': 2, 'd': 3}}, {'a': 1, 'b': {'c': 2, 'd': 4}},
     {'b': {'d': 4}}),
    ({'a': None}, {'a': {'x': 1}}, {'a': {'x': 1}}),
    ({'a': {'x': 1}}, {'a': None}, {'a': None}),
    ({'name': 'n', 'a': [1]}, {'name': 'n', 'a': [1]}, {})])
def test_only_what_differs_is_written(below, above, expected):
  assert writing.difference(below, above) == expected
