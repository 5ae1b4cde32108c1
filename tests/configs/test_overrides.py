"""The whole configuration is checked at once and errors help."""

import pytest

from modelgarden_opt import errors
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import image_classification as cfg
from modelgarden_opt.configs import overrides
from modelgarden_opt.data import embedded


def _write(tmp_path, text):
  path = tmp_path / 'config.yaml'
  path.write_text(text)
  return str(path)


def _error(tmp_path, text, experiment='mobilenet_v2_qat'):
  with pytest.raises(errors.UsageError) as e:
    overrides.resolve(experiment, [_write(tmp_path, text)])
  return str(e.value)


def test_every_error_of_a_file_is_told_at_once(tmp_path):
  message = _error(tmp_path, """
task:
  quantisation: {calibration_steps: 4}
  model: {num_clases: 10, input_size: 224}
trainer: {train_steps: many}
""")
  assert "task.quantisation: no such field; did you mean 'quantization'" in (
      message)
  assert "task.model.num_clases: no such field; did you mean 'num_classes'" in (
      message)
  assert 'task.model.input_size: expected' in message
  assert "trainer.train_steps: expected int, received 'many' (str)" in message


@pytest.mark.parametrize(('values', 'expected'), [
    ('version: v3', 'task.quantization.version'),
    ('num_bits_weight: 4', 'change_num_bits'),
    ('{change_num_bits: true, num_bits_weight: 9}', 'must lie in 2 to 8'),
    ('weight_granularity: per_layer', 'per_channel, per_tensor'),
    ('range_momentum: 1.0', 'must lie in [0, 1)'),
    ('calibration_steps: -1', 'must be >= 0'),
    ('{bias_correction: true, calibration_steps: 0}',
     'bias_correction: needs calibration_steps >= 1'),
    ('freeze_ranges_step: -2', 'must be >= 0'),
    ('rules: [{path: a, num_bits_weight: 1}]', 'rules[0].num_bits_weight'),
    ('rules: [{paht: a}]', "did you mean 'path'"),
    ('quantize_detection_head: true',
     'task.quantization.quantize_detection_head: detection is not supported '
     'yet'),
    ('quantize_detection_decoder: true',
     'task.quantization.quantize_detection_decoder: detection is not'),
])
def test_broken_rules_of_the_block_are_told(tmp_path, values, expected):
  if values.startswith('{'):
    text = f'task: {{quantization: {values}}}'
  else:
    text = f'task:\n  quantization:\n    {values}'
  assert expected in _error(tmp_path, text)


@pytest.mark.parametrize(('name', 'expected'), [
    ('mobilenet_v2_qta', "did you mean 'mobilenet_v2_qat', '"),
    ('zzz', "'zzz' is not registered; `modelgarden-opt list` names all"),
    ('retinanet_mobile_coco_qat', 'is about object detection, which is not '
     'supported yet; image_classification and semantic_segmentation are'),
    ('retinanet_mobile_coco', 'object detection, which is not supported yet'),
    ('bert/squad_qat', 'is about text, which is not supported yet'),
    ('mobilenet_imagenet', "is the Model Garden's own, which has no "
     "techniques; did you mean 'mobilenet_v1', 'mobilenet_v2', "),
])
def test_an_experiment_that_there_is_not_gets_one_short_line(name, expected):
  with pytest.raises(errors.UsageError) as e:
    overrides.base(name)
  message = str(e.value)
  assert expected in message and 'modelgarden-opt list' in message
  assert '\n' not in message and len(message) < 300
  assert sum(word.strip(",?;'") in catalog.EXPERIMENTS
             for word in message.split()) <= 5


def test_detection_fields_left_false_load(tmp_path):
  overrides.resolve('mobilenet_v2_qat', [_write(
      tmp_path, 'task: {quantization: {quantize_detection_head: false, '
      'quantize_detection_decoder: false}}')])


@pytest.mark.parametrize(('text', 'expected'), [
    ('task: {model: {backbone: {type: mobilnet}}}', "did you mean 'mobilenet'"),
    ('task: {train_data: {embedded_name: digit}}', "did you mean 'digits'"),
    ('task: {train_data: {embedded_name: digits, embedded_split: dev}}',
     "must be one of '', train, validation, test, received 'dev'"),
    ('runtime: {distribution_strategy: off}', 'expected str, received False'),
    ('runtime: {mixed_precision_dtype: bfloat16}', 'use null or float32'),
    ('runtime: {num_logical_cpus: 0}', 'cpus: must lie in 1 to 1024'),
    ('runtime: {num_logical_cpus: 2, distribution_strategy: one_device}',
     'needs distribution_strategy: mirrored'),
    ('runtime: {num_logical_cpus: 2, num_gpus: 1}', 'cannot be combined'),
    ('trainer: {best_checkpoint_metric_comp: hihger}',
     "must be one of higher, lower, received 'hihger'"),
    ('trainer: {train_steps: 500, optimizer_config: {learning_rate: '
     '{type: cosine, cosine: {decay_steps: 300}}}}',
     'so 200 steps would train at rate 0'),
    ('{task: {pruning: {}}, trainer: {optimizer_config: {ema: '
     '{trainable_weights_only: false}}}}', 'trainable_weights_only: must be'),
    ('task: {clustering: {}, pruning: {pruning_schedule: ConstantSparsity}}',
     'must be Preserve with clustering'),
    ('task: {clustering: {}, quantization: {cross_layer_equalization: true}}',
     'task.quantization.cross_layer_equalization: scales the channels'),
    ('task: {clustering: {}, quantization: {fold_batch_norm: true}}',
     'takes clusters apart'),
    ('task: {train_data: {tfds_name: cifar10}}', "set input_path: ''"),
    ('task: [1]', 'task: expected'),
    ('- a', 'expected `field: value` pairs'),
    ('a: [', 'not valid YAML'),
])
def test_other_errors_help(tmp_path, text, expected):
  assert expected in _error(tmp_path, text)


def test_an_unknown_experiment_names_the_nearest():
  with pytest.raises(errors.UsageError, match="'mobilenet_v2_qat'"):
    overrides.resolve('mobilenetv2_qat')


def test_files_apply_in_order_and_the_override_last(tmp_path):
  first, second = tmp_path / 'a.yaml', tmp_path / 'b.yaml'
  first.write_text('trainer: {train_steps: 1000, steps_per_loop: 1}')
  second.write_text('trainer: {train_steps: 2000, validation_interval: 2}')
  config = overrides.resolve(
      'mobilenet_v2', [str(first), str(second)],
      'trainer.validation_interval=3,runtime.distribution_strategy=one_device')
  trainer = config.trainer
  assert (trainer.steps_per_loop, trainer.train_steps,
          trainer.validation_interval) == (1, 2000, 3)
  assert config.runtime.distribution_strategy == 'one_device'


def test_numbers_without_a_dot_are_numbers(tmp_path):
  path = _write(tmp_path, 'task: {losses: {l2_weight_decay: 4e-5}}')
  config = overrides.resolve('mobilenet_v2', [path])
  assert config.task.losses.l2_weight_decay == 4e-5


def test_a_published_model_garden_qat_yaml_loads_unchanged(tmp_path):
  # Fields of imagenet_mobilenetv2_qat_gpu.yaml of the Model Garden.
  config = overrides.resolve('mobilenet_v2_qat', [_write(tmp_path, """
runtime:
  distribution_strategy: mirrored
  mixed_precision_dtype: float32
  loss_scale: dynamic
task:
  model:
    num_classes: 1001
    input_size: [224, 224, 3]
    backbone:
      type: mobilenet
      mobilenet: {model_id: MobileNetV2, filter_size_scale: 1.0}
    dropout_rate: 0.1
  losses: {l2_weight_decay: 0.0000001, one_hot: true, label_smoothing: 0.1}
  train_data:
    input_path: 'train*'
    is_training: true
    global_batch_size: 512
    dtype: float32
  validation_data:
    input_path: 'valid*'
    is_training: false
    global_batch_size: 512
    dtype: float32
    drop_remainder: false
  quantization: {pretrained_original_checkpoint: 'gs://b/ckpt-625500'}
trainer:
  train_steps: 250200
  optimizer_config:
    learning_rate:
      type: exponential
      exponential:
        decay_rate: 0.9
        decay_steps: 1251
        initial_learning_rate: 0.0001
        name: ExponentialDecay
        offset: 0
        staircase: true
    warmup: {type: linear, linear: {warmup_steps: 0}}
""")])
  assert isinstance(config.task, cfg.ImageClassificationTask)
  assert config.task.quantization.pretrained_original_checkpoint


@pytest.mark.parametrize('name', catalog.EXPERIMENTS)
def test_every_experiment_resolves_to_its_own_task(name):
  config = overrides.resolve(name)
  quantized = 'quantization' in catalog.EXPERIMENTS[name].techniques
  assert (config.task.quantization is not None) == quantized


def test_the_catalog_and_the_data_sets_agree():
  assert catalog.DATA_SETS.keys() == embedded.SETS.keys()


def test_arguments_go_with_their_builder():
  def sources(*blocks):
    return {str(i): {'task': {'model': {'backbone': {'keras': block}}}}
            for i, block in enumerate(blocks)}

  def resolved(*blocks):
    config = overrides.resolve_values('keras', sources(*blocks))
    return config.task.model.backbone.keras.arguments.as_dict()

  first = {'builder': 'tf_keras.applications:MobileNetV2',
           'arguments': {'alpha': 0.35, 'weights': None}}
  assert resolved(first, {'arguments': {'alpha': 0.5}}) == {
      'alpha': 0.5, 'weights': None}
  assert resolved(first, {**first, 'arguments': {'alpha': 0.5}}) == {
      'alpha': 0.5, 'weights': None}
  other = {'builder': 'tf_keras.applications:ResNet50'}
  assert resolved(first, other) == {}
  assert resolved(first, {**other, 'arguments': {'classes': 4}}) == {
      'classes': 4}
