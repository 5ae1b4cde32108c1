"""DeepLabV3 and V3+, small: every option of decoder and head, to the file."""

import numpy as np
from official.core import task_factory
from official.vision.modeling import segmentation_model
from official.vision.modeling.heads import segmentation_heads
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import heads
from modelgarden_opt.configs import overrides
from modelgarden_opt.configs import pruning
from modelgarden_opt.configs import quantization
from modelgarden_opt.data import representative
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.evaluation import segmentation
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.equalization import cross_layer
from modelgarden_opt.modeling.equalization import rescaling
from modelgarden_opt.modeling.equalization import units
from modelgarden_opt.modeling.state import checkpoints
from tests import conftest
from tests import tiny

SIZE = 64
MOBILENET = 'deeplabv3_mobilenet_v2'
PLUS = 'deeplabv3plus_mobilenet_v2'
# Name -> overrides of the model after the five blocks of `tests.tiny`.
OPTIONS = {
    'dilated': {'decoder': {'aspp': {'dilation_rates': [2, 4]}},
                'head': {'num_convs': 1}},
    'depthwise': {
        'decoder': {'aspp': {'dilation_rates': [2],
                             'use_depthwise_convolution': True}},
        'head': {'num_convs': 1, 'use_depthwise_convolution': True}},
    'pool_kernel': {'decoder': {'aspp': {'pool_kernel_size': [32, 64]}}},
    'pyramid_2': {'decoder': {'aspp': {'dilation_rates': [2],
                                       'spp_layer_version': 'v2'}}},
    'pyramid_2_depthwise': {'decoder': {'aspp': {
        'dilation_rates': [2], 'spp_layer_version': 'v2',
        'use_depthwise_convolution': True}}},
    'tensor': {'decoder': {'aspp': {'output_tensor': True}}},
    'no_decoder': {'decoder': {'type': 'identity'}},
    'swish': {'norm_activation': {'activation': 'swish'}},
    'hard_swish': {'norm_activation': {'activation': 'hard_swish'},
                   'decoder': {'aspp': {'spp_layer_version': 'v2'}}},
    'upsampled': {'head': {'upsample_factor': 2,
                           'prediction_kernel_size': 3}},
    'softmax': {'head': {'logit_activation': 'softmax'}},
    'plus': {'head': {
        'feature_fusion': 'deeplabv3plus', 'low_level': 2,
        'low_level_num_filters': 16, 'num_convs': 1}},
    'plus_sum': {'head': {
        'feature_fusion': 'deeplabv3plus_sum_to_merge', 'low_level': 2,
        'low_level_num_filters': 32}},
}
# What other cases cover in part.
SLOW = ('tensor', 'dilated', 'depthwise', 'no_decoder', 'swish', 'hard_swish',
        'upsampled', 'pyramid_2', 'pool_kernel', 'pyramid_2_depthwise',
        'plus_sum')
# The two that are written with ops that the delegate does not take.
NOT_DELEGATED = ('upsampled', 'softmax')
# The options above are those of the first one, of few blocks.
EXPERIMENTS = (
    MOBILENET, PLUS, 'deeplabv3_resnet50', 'deeplabv3plus_resnet50')


def make_task(name, data_dir, case=None, **further):
  """Returns the task of an experiment at toy size."""
  config = overrides.base(name)
  data = {'embedded_name': 'digits_scenes', 'embedded_dir': data_dir,
          'output_size': [SIZE, SIZE], 'global_batch_size': 8}
  config.override({'task': {
      'train_data': {
          **data, 'embedded_split': 'train', 'aug_rand_hflip': False,
          'seed': 3, 'shuffle_buffer_size': 8, 'aug_scale_min': 1.0,
          'aug_scale_max': 1.0, 'crop_size': []},
      'validation_data': {
          **data, 'embedded_split': 'validation', 'drop_remainder': False,
          'resize_eval_groundtruth': True},
      'model': {'num_classes': 11, 'input_size': [SIZE, SIZE, 3],
                'norm_activation': {'norm_momentum': 0.9,
                                    'use_sync_bn': False},
                'decoder': {'aspp': {'num_filters': 32}},
                'head': {'num_filters': 32}},
      **further}})
  if 'mobilenet' in name:
    config.task.model.backbone.mobilenet.filter_size_scale = 0.25
  else:  # Wide dilations take minutes to train on a processor.
    config.task.model.decoder.aspp.dilation_rates = [2, 4]
  if case is not None:
    config.override({'task': {'model': {
        'backbone': {'mobilenet': {'model_id': 'Tiny',
                                   'output_stride': None,
                                   'filter_size_scale': 1.0}},
        'decoder': {'aspp': {'level': 2}}, 'head': {'level': 2}}}})
    config.override({'task': {'model': case}})
  return task_factory.get_task(config.task)


def _converted(experiment, data_dir, tmp_path, case=None):
  """Takes a model to its int8 file; compares it with Keras on the way.

  Returns:
    The file's census, its outputs, Keras' outputs, the file's output step.
  """
  task = make_task(experiment, data_dir, case)
  floats = task.build_model()
  # A deep model after a few large steps is so badly conditioned that its own
  # quantization error is thirty output steps: no measure for the file.
  tiny.train(task, floats, *((8, 1e-3) if 'resnet' in experiment else
                             (30, 3e-3)))
  path = tf.train.Checkpoint(
      model=floats, **floats.checkpoint_items).write(str(tmp_path / 'ckpt'))
  quantized = make_task(f'{experiment}_qat', data_dir, case)
  model = quantized.build_model()
  checkpoints.load_checkpoint(model, path)
  images = np.concatenate(list(
      representative.calibration_images(task, 32)))
  with calibration.quantizer_mode(model, calibration.Mode.PASS_THROUGH):
    np.testing.assert_allclose(
        model(images[:4], training=False)['logits'],
        floats(images[:4], training=False)['logits'], atol=1e-4)
  calibration.calibrate(model, tf.data.Dataset.from_tensor_slices(
      (images, np.zeros(len(images)))).batch(16))
  assert np.isfinite(tiny.train(quantized, model, 2, 1e-5))
  file = tmp_path / 'm.tflite'
  file.write_bytes(convert.convert(model, 'int8'))
  runner = litert_model.Model(str(file))
  expected = factory.logits(model(images, training=False)).numpy()
  return census.take(str(file)), runner(images), expected, (
      runner.output_scale)


def _assert_same(actual, expected, step):
  steps = np.abs(actual - expected) / step
  assert np.percentile(steps, 95) <= 2.1 and np.mean(steps) <= 0.7
  size = (SIZE, SIZE)
  assert np.mean(segmentation.classes(actual, size) ==
                 segmentation.classes(expected, size)) >= 0.97


@pytest.mark.parametrize('name', [
    pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n
    for n in OPTIONS])
def test_every_option_trains_converts_and_agrees(name, data_dir, tmp_path):
  found, *outputs = _converted(MOBILENET, data_dir, tmp_path, OPTIONS[name])
  assert not found.float_ops
  if name not in NOT_DELEGATED:
    assert found.num_delegate_partitions == 1 and not found.num_undelegated_ops
  _assert_same(*outputs)


@pytest.mark.slow
@pytest.mark.parametrize('experiment', EXPERIMENTS)
def test_every_experiment_trains_converts_and_agrees(
    experiment, data_dir, tmp_path):
  found, *outputs = _converted(experiment, data_dir, tmp_path)
  assert not found.float_ops
  assert found.num_delegate_partitions == 1 and not found.num_undelegated_ops
  _assert_same(*outputs)


@pytest.mark.parametrize(('model', 'field'), [
    ({'decoder': {'type': 'fpn'}}, 'decoder.type'),
    ({'mask_scoring_head': {'fc_input_size': [16, 16]}}, 'mask_scoring_head'),
    ({'head': {'feature_fusion': 'panoptic_fpn_fusion'}},
     'head.feature_fusion'),
])
def test_what_has_no_twin_is_refused_by_name(model, field):
  config = overrides.base(f'{MOBILENET}_qat')
  config.override({'task': {'model': model}})
  with pytest.raises(errors.UsageError, match=f'task.model.{field}'):
    overrides.finish(config)


def _model(data_dir):
  model = make_task(MOBILENET, data_dir, {
      'decoder': {'aspp': {'dilation_rates': [2]}}}).build_model()
  return segmentation_model.SegmentationModel(
      model.backbone, *(type(part).from_config(part.get_config())
                        for part in (model.decoder, model.head)))


def test_a_model_that_was_never_called_is_compressed(data_dir):
  floats = _model(data_dir)
  quantized = factory.compress(floats, quantization.Quantization())
  images = conftest.random_images([2, SIZE, SIZE, 3])
  with calibration.quantizer_mode(quantized, calibration.Mode.PASS_THROUGH):
    np.testing.assert_allclose(
        quantized(images, training=False)['logits'],
        floats(images, training=False)['logits'], atol=1e-5)


def test_a_mask_scoring_head_is_refused_and_not_dropped(data_dir):
  floats = _model(data_dir)
  floats.mask_scoring_head = tf_keras.layers.Flatten()
  with pytest.raises(errors.UsageError, match='mask_scoring_head: cannot be'):
    factory.compress(floats, pruning.Pruning())


@pytest.mark.parametrize('fusion', ['deeplabv3', None])
def test_an_unknown_fusion_is_none_as_in_the_float_head(fusion):
  options = {'num_classes': 5, 'level': 4, 'feature_fusion': fusion}
  features = [conftest.random_images([2, 8, 8, 4]) for _ in range(2)]
  head = segmentation_heads.SegmentationHead(**options)
  expected = head(features)
  twin = heads.SegmentationHeadQuantized(**options)
  assert twin(features).shape == expected.shape
  checkpoints.copy_variables(head, twin)
  with calibration.quantizer_mode(twin, calibration.Mode.PASS_THROUGH):
    np.testing.assert_allclose(twin(features), expected, atol=1e-6)


def test_the_fusion_that_cannot_be_quantized_is_refused():
  head = heads.SegmentationHeadQuantized(
      num_classes=5, level=4, feature_fusion='panoptic_fpn_fusion',
      decoder_min_level=4, decoder_max_level=4)
  with pytest.raises(ValueError, match='panoptic_fpn_fusion cannot be'):
    head([{'4': conftest.random_images([2, 8, 8, 4])}] * 2)


def test_backbone_alone_is_loaded_from_a_classifier(data_dir, tmp_path):
  values = tiny.overrides(data_dir)['task']['model']
  classifier = overrides.base('mobilenet_v2')
  classifier.override({'task': {'model': {
      **values, 'backbone': {'mobilenet': {'filter_size_scale': 0.25}}}}})
  source = task_factory.get_task(classifier.task).build_model()
  path = tf.train.Checkpoint(
      model=source, backbone=source.backbone).write(str(tmp_path / 'ckpt'))
  task = make_task(MOBILENET, data_dir, init_checkpoint=path,
                   init_checkpoint_modules='backbone')
  model = task.build_model()
  head = model.head.variables[0].numpy()
  task.initialize(model)
  np.testing.assert_array_equal(
      model.backbone.variables[0], source.backbone.variables[0])
  np.testing.assert_array_equal(model.head.variables[0], head)


@pytest.mark.parametrize('name', [
    'depthwise', 'upsampled', 'pyramid_2', 'plus', 'plus_sum'])
def test_channels_of_decoders_and_heads_can_be_equalized(name, data_dir):
  """What is joined, resized and read by two branches keeps its channels."""
  model = {**OPTIONS[name], 'backbone': {'mobilenet': {
      'model_id': 'TinyRelu', 'output_stride': None,
      'filter_size_scale': 1.0}}}
  model = make_task(f'{MOBILENET}_qat', data_dir, model).build_model()
  conftest.randomize_norms(model)
  images = conftest.random_images([2, SIZE, SIZE, 3])

  def logits():
    with calibration.quantizer_mode(model, calibration.Mode.PASS_THROUGH):
      return factory.logits(model(images, training=False)).numpy()

  before, found = logits(), units.find(model)
  rescaling.rescale(found)
  cross_layer.equalize(model)
  np.testing.assert_allclose(
      logits(), before, atol=1e-4 * np.abs(before).max())
  read = [unit.consumer.path for unit in found if unit.consumer is not None]
  assert sum(path.startswith('backbone/') for path in read) == 5
  # Upsampling and addition are ops of the head that read what it joins.
  assert any(path.startswith('head/') for path in read) == (
      name not in ('upsampled', 'plus_sum'))
