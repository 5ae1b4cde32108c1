"""What the Model Garden's own fields take; its classes say types only.

By class, then by field; `*` stands for every class. The name of a base class
stands for its subclasses. Choices were read in the code of
tf-models-official 2.20 that branches on them.
"""

from collections.abc import Mapping
import dataclasses

from modelgarden_opt.configs.schema.fields import Takes

_BACKBONES = 'official.vision.modeling.backbones'
_SHARE = Takes(range='[0, 1]')
_DROP = Takes(range='[0, 1)')
_MOMENTUM = Takes(range='[0, 1)')
_POSITIVE = Takes(range='> 0')
_NOT_NEGATIVE = Takes(range='>= 0')
_ONE_OR_MORE = Takes(range='>= 1')
_RATE = Takes(range='>= 0', unit='per step')
_STEPS = Takes(range='>= 1', unit='steps')
_STEP = Takes(range='>= 0', unit='steps')
_SIZES = Takes(range='1 to 16384', length=(0, 2), unit='pixels')
_FILTERS = Takes(range='1 to 65536')
_LEVEL = Takes(range='1 to 10')
_PARTITIONS = Takes(range='>= 1')
_DTYPES = ('float32', 'float16', 'bfloat16')
_STEMS = Takes(choices=('v0', 'v1'))
_SCALE = Takes(range='(0, 64]')
_PROBABILITY = Takes(range='[0, 1]')

ACTIVATIONS = (
    'elu', 'exponential', 'gelu', 'hard_sigmoid', 'hard_swish', 'identity',
    'leaky_relu', 'linear', 'mish', 'relu', 'relu6', 'selu', 'sigmoid',
    'simple_swish', 'softmax', 'softplus', 'softsign', 'swish', 'tanh')
# Initializers of tf_keras that need no arguments and start a kernel well.
INITIALIZERS = tuple(
    name for snake in (
        'glorot_normal', 'glorot_uniform', 'he_normal', 'he_uniform',
        'lecun_normal', 'lecun_uniform', 'ones', 'orthogonal', 'random_normal',
        'random_uniform', 'truncated_normal', 'variance_scaling', 'zeros')
    for name in (snake, ''.join(part.title() for part in snake.split('_'))))
AUTOAUGMENTS = (
    'v0', 'detection_v0', 'test', 'simple', 'reduced_cifar10', 'svhn',
    'reduced_imagenet', 'panoptic_deeplab_policy', 'vit',
    'deit3_three_augment')
RESIZE_METHODS = ('bilinear', 'nearest', 'bicubic', 'area', 'lanczos3',
                  'lanczos5', 'gaussian', 'mitchellcubic')

TAKES: Mapping[str, Mapping[str, Takes]] = {
    '*': {
        'alpha': _SHARE,
        'beta_1': _MOMENTUM, 'beta_2': _MOMENTUM, 'beta1': _MOMENTUM,
        'clipnorm': _POSITIVE, 'clipvalue': _POSITIVE,
        'global_clipnorm': _POSITIVE, 'gradient_clip_norm': _NOT_NEGATIVE,
        'decay': _NOT_NEGATIVE,
        'decay_steps': _STEPS, 'total_decay_steps': _STEPS,
        'dropout_rate': _DROP, 'attention_dropout_rate': _DROP,
        'epsilon': _POSITIVE, 'epsilon1': _POSITIVE, 'epsilon2': _POSITIVE,
        'epsilon_1': _POSITIVE, 'epsilon_2': _POSITIVE,
        'filter_size_scale': _SCALE, 'depth_multiplier': _SCALE,
        'initial_learning_rate': _RATE, 'learning_rate': _RATE,
        'end_learning_rate': _RATE, 'warmup_learning_rate': _RATE,
        'l2_weight_decay': _NOT_NEGATIVE,
        'label_smoothing': _DROP,
        'loss_weight': _POSITIVE,
        'max_level': _LEVEL, 'min_level': _LEVEL,
        'momentum': _MOMENTUM,
        'num_filters': _FILTERS,
        'num_repeats': Takes(range='1 to 64'),
        'offset': _STEP,
        'prob_to_apply': _PROBABILITY,
        'se_ratio': _SHARE,
        'stem_type': _STEMS,
        'stochastic_depth_drop_rate': _DROP,
        'init_stochastic_depth_rate': _DROP,
        'warmup_steps': _STEP,
        'weight_decay': _NOT_NEGATIVE, 'weight_decay_rate': _NOT_NEGATIVE,
    },
    'TaskConfig': {
        'name': Takes(meaning='The experiment; written by the program.'),
        'init_checkpoint': Takes(
            nullable=True, example='runs/float/best_ckpt',
            meaning='Checkpoint to start from: a file prefix or a directory.'),
        'train_input_partition_dims': _PARTITIONS,
        'eval_input_partition_dims': _PARTITIONS,
    },
    'ImageClassificationTask': {
        'init_checkpoint_modules': Takes(choices=('all', 'backbone')),
        'model_output_keys': _NOT_NEGATIVE,
    },
    'DifferentialPrivacyConfig': {
        'clipping_norm': _POSITIVE, 'noise_multiplier': _NOT_NEGATIVE},
    'DataConfig': {
        'input_path': Takes(nullable=True, example='/data/train-*.tfrecord'),
        'global_batch_size': Takes(
            range='1 to 1048576', unit='images', example='64'),
        'shuffle_buffer_size': Takes(range='>= 1', unit='images'),
        'cycle_length': Takes(range='>= 1', unit='files'),
        'block_length': _ONE_OR_MORE,
        'ram_budget': Takes(range='>= 1', unit='GB'),
        'prefetch_buffer_size': Takes(range='>= -1', unit='batches'),
        'autotune_algorithm': Takes(choices=(
            'DEFAULT', 'HILL_CLIMB', 'GRADIENT_DESCENT', 'MAX_PARALLELISM',
            'STAGE_BASED')),
        'dtype': Takes(choices=_DTYPES, meaning='Type of the images.'),
        'file_type': Takes(choices=('tfrecord', 'tfrecord_compressed')),
        'seed': Takes(range='>= 0'),
        'crop_area_range': Takes(range='(0, 1]', length=(2,)),
        'color_jitter': _SHARE,
        'aug_policy': Takes(choices=('autoaug', 'randaug')),
        'randaug_magnitude': Takes(range='0 to 30'),
        'center_crop_fraction': Takes(
            range='(0, 1]', meaning='Side of the central square that is kept, '
            "as a share of the image's shorter side."),
        'tf_resize_method': Takes(choices=RESIZE_METHODS),
        'repeated_augment': _ONE_OR_MORE,
        'output_size': _SIZES, 'crop_size': _SIZES,
        'groundtruth_padded_size': _SIZES,
        'aug_scale_min': _POSITIVE, 'aug_scale_max': _POSITIVE,
    },
    'DenseFeatureConfig': {
        'num_channels': Takes(choices=(1, 3, 4)),
        'mean': Takes(range='[0, 255]'), 'stddev': Takes(range='(0, 255]')},
    'TfExampleDecoder': {'mask_binarize_threshold': _SHARE},
    'TfExampleDecoderLabelMap': {'mask_binarize_threshold': _SHARE},
    'RandAugment': {
        'num_layers': _ONE_OR_MORE, 'magnitude': Takes(range='[0, 30]'),
        'cutout_const': _NOT_NEGATIVE, 'translate_const': _NOT_NEGATIVE,
        'magnitude_std': _NOT_NEGATIVE},
    'AutoAugment': {
        'augmentation_name': Takes(choices=AUTOAUGMENTS),
        'cutout_const': _NOT_NEGATIVE, 'translate_const': _NOT_NEGATIVE},
    'RandomErasing': {
        'probability': _PROBABILITY, 'min_area': Takes(range='(0, 1]'),
        'max_area': Takes(range='(0, 1]'), 'min_aspect': _POSITIVE},
    'MixupAndCutmix': {
        'mixup_alpha': _NOT_NEGATIVE, 'cutmix_alpha': _NOT_NEGATIVE,
        'prob': _PROBABILITY, 'switch_prob': _PROBABILITY},
    'ImageClassificationModel': {
        'num_classes': Takes(range='1 to 1000000', example='10'),
        'input_size': Takes(
            range='1 to 16384', length=(3,), unit='pixels',
            meaning='Height, width and channels of the images.',
            example='[224, 224, 3]'),
        'kernel_initializer': Takes(choices=INITIALIZERS),
    },
    'SemanticSegmentationModel': {
        'num_classes': Takes(range='1 to 65536', example='21'),
        'input_size': Takes(
            range='1 to 16384', length=(3,), null_elements=True, unit='pixels',
            meaning='Height, width and channels of the images; null for any.',
            example='[512, 512, 3]'),
    },
    'NormActivation': {
        'activation': Takes(choices=ACTIVATIONS),
        'norm_momentum': Takes(range='[0, 1]', example='0.99'),
        'norm_epsilon': _POSITIVE},
    'SegmentationHead': {
        'level': _LEVEL, 'num_convs': Takes(range='0 to 64'),
        'prediction_kernel_size': Takes(range='1 to 63'),
        'upsample_factor': Takes(range='1 to 64'),
        'logit_activation': Takes(choices=('sigmoid', 'softmax')),
        'feature_fusion': Takes(choices=(
            'deeplabv3plus', 'deeplabv3plus_sum_to_merge',
            'panoptic_fpn_fusion', 'pyramid_fusion')),
        'low_level': _LEVEL, 'low_level_num_filters': _FILTERS,
        'decoder_min_level': _LEVEL, 'decoder_max_level': _LEVEL},
    'MaskScoringHead': {
        'num_convs': Takes(range='0 to 64'), 'fc_input_size': _SIZES,
        'num_fcs': Takes(range='0 to 64'), 'fc_dims': _FILTERS},
    'Losses': {
        'ignore_label': Takes(range='-1 to 65535'),
        'class_weights': _NOT_NEGATIVE,
        'top_k_percent_pixels': Takes(range='(0, 1]'),
        'mask_scoring_weight': _NOT_NEGATIVE},
    'Evaluation': {
        'top_k': Takes(range='>= 1', meaning='A prediction counts if the class '
                       'is among so many of the most probable ones.'),
        'precision_and_recall_thresholds': _SHARE},
    'ResNet': {'model_id': Takes(
        choices=(10, 18, 26, 34, 50, 101, 152, 200, 270, 350, 420),
        registry=f'{_BACKBONES}.resnet:RESNET_SPECS', meaning='Depth.')},
    'DilatedResNet': {
        'model_id': Takes(
            choices=(50, 101, 152, 200), meaning='Depth.',
            registry=f'{_BACKBONES}.resnet_deeplab:RESNET_SPECS'),
        'output_stride': Takes(choices=(8, 16, 32)),
        'multigrid': Takes(range='1 to 64', length=(3,)),
        'last_stage_repeats': Takes(range='1 to 16')},
    'RevNet': {'model_id': Takes(
        choices=(38, 56, 104),
        registry=f'{_BACKBONES}.revnet:REVNET_SPECS', meaning='Depth.')},
    'EfficientNet': {'model_id': Takes(
        choices=('b0', 'b1', 'b2', 'b3', 'b4', 'b5', 'b6', 'b7'),
        registry=f'{_BACKBONES}.efficientnet:SCALING_MAP')},
    'MobileNet': {
        'model_id': Takes(
            choices=(
                'MobileNetV1', 'MobileNetV2', 'MobileNetV3Large',
                'MobileNetV3Small', 'MobileNetV3EdgeTPU', 'MobileNetMultiMAX',
                'MobileNetMultiAVG', 'MobileNetMultiAVGSeg',
                'MobileNetMultiMAXSeg', 'MobileNetV3SmallReducedFilters',
                'MobileNetV4ConvSmall', 'MobileNetV4ConvMedium',
                'MobileNetV4ConvLarge', 'MobileNetV4HybridMedium',
                'MobileNetV4HybridLarge', 'MobileNetV4ConvMediumSeg',
                'MobileNetV1Relu', 'MobileNetV2Relu'),
            registry=f'{_BACKBONES}.mobilenet:SUPPORTED_SPECS_MAP'),
        'output_stride': Takes(choices=(2, 4, 8, 16, 32)),
        'filter_size_scale': dataclasses.replace(
            _SCALE, meaning='Multiplies all numbers of channels.')},
    'MobileDet': {'model_id': Takes(
        choices=('MobileDetCPU', 'MobileDetDSP', 'MobileDetEdgeTPU',
                 'MobileDetGPU'),
        registry=f'{_BACKBONES}.mobiledet:SUPPORTED_SPECS_MAP')},
    'SpineNet': {'model_id': Takes(
        choices=('49S', '49', '96', '143', '143L', '190'),
        registry=f'{_BACKBONES}.spinenet:SCALING_MAP')},
    'SpineNetMobile': {
        'model_id': Takes(
            choices=('49', '49S', '49XS'),
            registry=f'{_BACKBONES}.spinenet_mobile:SCALING_MAP'),
        'expand_ratio': Takes(range='1 to 64')},
    'VisionTransformer': {
        'pooler': Takes(choices=('token', 'gap', 'none')),
        'representation_size': Takes(range='0 to 65536'),
        'hidden_size': _FILTERS, 'patch_size': Takes(range='1 to 16384'),
        'pos_embed_shape': Takes(range='1 to 16384', length=(2,)),
        'layer_scale_init_value': _NOT_NEGATIVE,
        'transformer_partition_dims': Takes(range='>= 1', length=(4,))},
    'Transformer': {
        'mlp_dim': _FILTERS, 'num_heads': Takes(range='1 to 1024'),
        'num_layers': Takes(range='1 to 1024')},
    'FPN': {'fusion_type': Takes(choices=('sum', 'concat'))},
    'ASPP': {
        'level': _LEVEL, 'dilation_rates': Takes(range='1 to 1024'),
        'pool_kernel_size': Takes(range='1 to 16384', length=(0, 2)),
        'spp_layer_version': Takes(choices=('v1', 'v2'))},
    'TrainerConfig': {
        'steps_per_loop': _STEPS, 'summary_interval': _STEPS,
        'checkpoint_interval': _STEPS, 'validation_interval': _STEPS,
        'train_steps': dataclasses.replace(_STEPS, example='1500'),
        'validation_steps': Takes(range='>= -1', unit='batches'),
        'max_to_keep': Takes(range='>= 1', unit='checkpoints'),
        'continuous_eval_timeout': Takes(
            range='>= 0', unit='seconds', nullable=True),
        'best_checkpoint_metric_comp': Takes(choices=('higher', 'lower')),
        'best_checkpoint_export_subdir': Takes(inside=True),
        'validation_summary_subdir': Takes(inside=True),
        'loss_upper_bound': Takes(range='(0, inf]'),
        'recovery_begin_steps': _STEP,
        'recovery_max_trials': Takes(range='>= -1')},
    'ExponentialLrConfig': {
        'decay_rate': Takes(range='(0, 1]', example='0.98')},
    'StepwiseLrConfig': {'boundaries': _STEPS, 'values': _RATE},
    'StepCosineLrConfig': {'boundaries': _STEPS, 'values': _RATE},
    'PolynomialLrConfig': {'power': _POSITIVE},
    'PowerAndLinearDecayLrConfig': {
        'linear_decay_fraction': Takes(range='(0, 1]')},
    'PowerDecayWithOffsetLrConfig': {'pre_offset_learning_rate': _RATE},
    'PolynomialWarmupConfig': {'power': _POSITIVE},
    'RMSPropConfig': {'rho': _MOMENTUM},
    'AdagradConfig': {'initial_accumulator_value': _NOT_NEGATIVE},
    'LARSConfig': {'eeta': _POSITIVE},
    'EMAConfig': {'average_decay': _MOMENTUM, 'start_step': _STEP},
    'SLIDEConfig': {
        'weight_decay_type': Takes(choices=('inner', 'outer')),
        'sparse_layer_learning_rate': _RATE,
        'norm_type': Takes(choices=('layer', 'global')),
        'ratio_clip_norm': _POSITIVE},
    'AdafactorConfig': {
        'decay_rate': Takes(range='[0, 1]'), 'step_offset': _STEP,
        'clipping_threshold': _POSITIVE,
        'min_dim_size_to_factor': _ONE_OR_MORE},
    'AdafactorKerasConfig': {
        'beta_2_decay': Takes(range='<= 0'), 'clip_threshold': _POSITIVE},
    'RuntimeConfig': {
        'distribution_strategy': Takes(choices=(
            'off', 'one_device', 'mirrored', 'multi_worker_mirrored',
            'parameter_server', 'tpu'), example="'off'"),
        'gpu_thread_mode': Takes(choices=(
            'global', 'gpu_private', 'gpu_shared')),
        'dataset_num_private_threads': Takes(range='1 to 1024'),
        'per_gpu_thread_count': Takes(range='0 to 1024'),
        'num_gpus': Takes(range='0 to 1024'),
        'task_index': Takes(range='>= -1'),
        'all_reduce_alg': Takes(choices=('nccl', 'hierarchical_copy', 'ring')),
        'num_packs': Takes(range='0 to 1024'),
        'mixed_precision_dtype': Takes(choices=_DTYPES),
        'loss_scale': Takes(range='> 0', choices=('dynamic',)),
        'num_cores_per_replica': _ONE_OR_MORE,
        'default_shard_dim': Takes(range='>= -1')},
}


def takes(classes: list[str], name: str) -> Takes | None:
  """Returns what a field takes, None if nothing is known beyond its type.

  Args:
    classes: Names of its class and of the base classes.
    name: Its name.
  """
  for cls in (*classes, '*'):
    found = TAKES.get(cls, {}).get(name)
    if found is not None:
      return found
  return None
