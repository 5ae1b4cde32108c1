# ruff: noqa: E501 (fields stay as they are published)
"""Configurations as the Model Garden publishes them load unchanged.

The fields (not the comments) of its QAT and pruning files, tensorflow/models,
`official/projects/qat/vision/configs/experiments` and
`official/projects/pruning/configs/experiments`.
"""

import pytest
import yaml

from modelgarden_opt.configs import overrides

_RUNTIME = """
runtime: {distribution_strategy: 'mirrored', mixed_precision_dtype: 'float32', loss_scale: 'dynamic'}
"""
_IMAGENET_DATA = """
  train_data: {input_path: 'imagenet-2012-tfrecord/train*', is_training: true, global_batch_size: 256, dtype: 'float32'}
  validation_data: {input_path: 'imagenet-2012-tfrecord/valid*', is_training: false, global_batch_size: 256, dtype: 'float32', drop_remainder: false}
"""
_RESNET = _RUNTIME + """
task:
  model: {num_classes: 1001, input_size: [224, 224, 3], backbone: {type: 'resnet', resnet: {model_id: 50}}}
  losses: {l2_weight_decay: 0.0001, one_hot: true, label_smoothing: 0.1}
""" + _IMAGENET_DATA
_MOBILENET = _RUNTIME + """
task:
  model: {num_classes: 1001, input_size: [224, 224, 3], dropout_rate: 0.1, backbone: {type: 'mobilenet', mobilenet: {model_id: 'MobileNetV2', filter_size_scale: 1.0}}}
  losses: {l2_weight_decay: 0.0000001, one_hot: true, label_smoothing: 0.1}
""" + _IMAGENET_DATA
_TRAINER = """
trainer:
  train_steps: 449280
  validation_steps: 200
  validation_interval: 5000
  steps_per_loop: 5000
  summary_interval: 5000
  checkpoint_interval: 5000
  optimizer_config:
    optimizer: {type: 'sgd', sgd: {momentum: 0.9}}
    learning_rate: {type: 'exponential', exponential: {initial_learning_rate: 0.016, decay_steps: 25000, decay_rate: 0.5, staircase: true, name: 'ExponentialDecay', offset: 0}}
    warmup: {type: 'linear', linear: {warmup_steps: 1000}}
"""
_PASCAL = _RUNTIME + """
task:
  model:
    num_classes: 21
    input_size: [512, 512, 3]
    backbone: {type: 'mobilenet', mobilenet: {model_id: 'MobileNetV2', output_stride: 16}}
    decoder: {type: 'aspp', aspp: {dilation_rates: [], level: 4, pool_kernel_size: null, output_tensor: true}}
    head: {feature_fusion: null, num_convs: 0}
    norm_activation: {activation: relu, norm_epsilon: 0.001, norm_momentum: 0.99, use_sync_bn: true}
  losses: {l2_weight_decay: 4.0e-07}
  train_data: {output_size: [512, 512], crop_size: [512, 512], input_path: 'pascal_voc_seg/train_aug*', is_training: true, global_batch_size: 16, dtype: 'float32', aug_rand_hflip: true, aug_scale_max: 2.0, aug_scale_min: 0.5}
  validation_data: {output_size: [512, 512], input_path: 'pascal_voc_seg/val*', is_training: false, global_batch_size: 16, dtype: 'float32', drop_remainder: false, resize_eval_groundtruth: false, groundtruth_padded_size: [512, 512]}
  quantization: {pretrained_original_checkpoint: 'best_ckpt-54'}
  init_checkpoint: null
trainer:
  best_checkpoint_eval_metric: 'mean_iou'
  best_checkpoint_export_subdir: 'best_ckpt'
  best_checkpoint_metric_comp: 'higher'
  train_steps: 13240
  optimizer_config:
    learning_rate: {type: polynomial, polynomial: {decay_steps: 13240, initial_learning_rate: 0.00007, power: 0.9}}
    optimizer: {type: sgd, sgd: {momentum: 0.9}}
    warmup: {type: linear, linear: {name: linear, warmup_steps: 0}}
"""
_CITYSCAPES = """
runtime: {distribution_strategy: 'tpu', mixed_precision_dtype: 'float32'}
task:
  model:
    num_classes: 19
    input_size: [1024, 2048, 3]
    backbone: {type: 'mobilenet', mobilenet: {model_id: 'MobileNetV2', output_stride: 16, output_intermediate_endpoints: true}}
    decoder: {type: 'aspp', aspp: {dilation_rates: [], level: 4, pool_kernel_size: [512, 1024], output_tensor: true}}
    head: {feature_fusion: 'deeplabv3plus', low_level: '2/depthwise', low_level_num_filters: 48, level: 4, num_convs: 2, use_depthwise_convolution: true}
  train_data: {output_size: [1024, 2048], crop_size: [], input_path: '', tfds_name: 'cityscapes/semantic_segmentation', tfds_split: 'train', is_training: true, global_batch_size: 16}
  validation_data: {output_size: [1024, 2048], input_path: '', tfds_name: 'cityscapes/semantic_segmentation', tfds_split: 'validation', is_training: false, global_batch_size: 16, drop_remainder: false, resize_eval_groundtruth: true}
  quantization: {pretrained_original_checkpoint: 'best_ckpt-408'}
"""


def _pruning(end_step, final_sparsity, frequency):
  return f"""
  pruning: {{pretrained_original_checkpoint: 'ckpt', pruning_schedule: 'PolynomialDecay', begin_step: 0, end_step: {end_step}, initial_sparsity: 0.2, final_sparsity: {final_sparsity}, frequency: {frequency}}}
"""


def _bits(weight, activation):
  return f"""
  quantization: {{pretrained_original_checkpoint: 'ckpt', change_num_bits: true, num_bits_weight: {weight}, num_bits_activation: {activation}}}
"""


PUBLISHED = {
    'mobilenet': ('mobilenet_imagenet_qat', _MOBILENET + """
  quantization: {pretrained_original_checkpoint: 'ckpt-625500'}
""" + _TRAINER),
    'resnet_4x4': ('resnet_imagenet_qat', _RESNET + _bits(4, 4) + _TRAINER),
    'resnet_4x8': ('resnet_imagenet_qat', _RESNET + _bits(4, 8) + _TRAINER),
    'resnet_6x6': ('resnet_imagenet_qat', _RESNET + _bits(6, 6) + _TRAINER),
    'pascal': ('mnv2_deeplabv3_pascal_qat', _PASCAL),
    'cityscapes': ('mnv2_deeplabv3plus_cityscapes_qat', _CITYSCAPES),
    'mobilenet_pruning': (
        'mobilenet_imagenet_pruning',
        _MOBILENET + _pruning(80000, 0.5, 400) + _TRAINER),
    'resnet_pruning': (
        'resnet_imagenet_pruning',
        _RESNET + _pruning(40000, 0.8, 40) + _TRAINER),
}


def _leaves(values, path=()):
  for name, value in values.items():
    if isinstance(value, dict):
      yield from _leaves(value, (*path, name))
    else:
      yield (*path, name), value


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_configuration_loads_unchanged(name, tmp_path):
  experiment, text = PUBLISHED[name]
  path = tmp_path / 'published.yaml'
  path.write_text(text)
  resolved = overrides.resolve(experiment, [str(path)]).as_dict()
  for keys, value in _leaves(yaml.safe_load(text)):
    found = resolved
    for key in keys:
      found = found[key]
    if isinstance(value, str) and isinstance(found, float):
      value = float(value)  # YAML 1.1 reads 4.0e-07 as text.
    assert found == value or list(found) == value, keys


def test_bits_reach_the_layers(tmp_path):
  from official.core import task_factory

  from modelgarden_opt.compression.quantization import kernel_quantizer
  from modelgarden_opt.compression.quantization import quantizers
  from modelgarden_opt.modeling import calibration
  experiment, text = PUBLISHED['resnet_4x8']
  path = tmp_path / 'published.yaml'
  path.write_text(text)
  config = overrides.resolve(experiment, [str(path)], (
      'task.model.input_size=[32,32,3],task.model.num_classes=10,'
      'task.model.backbone.resnet.depth_multiplier=0.25,'
      'task.model.backbone.resnet.model_id=18,'
      'task.quantization.low_bit=all'))
  model = task_factory.get_task(config.task).build_model()
  found = calibration.quantizers_of(model)
  kernels = [q.num_bits for q in found
             if isinstance(q, kernel_quantizer.KernelQuantizer)]
  # The first layer has 8 bits.
  assert kernels.count(8) == 1 and kernels.count(4) == len(kernels) - 1 > 15
  assert {q.num_bits for q in found
          if isinstance(q, quantizers.ActivationQuantizer)} == {8}
