"""Rules of `task.model`."""

from collections.abc import Iterator

from modelgarden_opt.configs.rules import rule

_CHANNELS = 3


@rule.reads('task.model.input_size', 'task.train_data')
def _channels_of_the_images(c: rule.View) -> Iterator[rule.Found]:
  feature = c.task.train_data.image_feature
  channels = feature.num_channels if feature is not None else _CHANNELS
  size = c.task.model.input_size
  if size and len(size) == 3 and size[2] != channels:
    yield (f'images have {channels} channels, so it is [height, width, '
           f'{channels}], received {size}')


@rule.reads('task.model.backbone.type')
def _a_backbone(c: rule.View) -> Iterator[rule.Found]:
  if c.task.model.backbone.type is None:
    yield 'must name a backbone, received null'


@rule.reads('task.model.norm_activation.activation',
            'task.model.backbone.type')
def _activations_that_are_read(c: rule.View) -> Iterator[rule.Found]:
  model = c.task.model
  kind, given = model.backbone.type, model.norm_activation.activation
  if kind not in ('mobilenet', 'keras') or model.head is not None or (
      model.base is None or given == model.base.norm_activation.activation):
    return
  yield (f'is not read by a backbone of type {kind}, whose layers name theirs, '
         f'received {given!r}; leave it out'
         + (" (model_id 'MobileNetV2Relu' has relu in place of relu6)"
            if kind == 'mobilenet' else ''))


@rule.reads('task.model.backbone.keras.builder',
            'task.model.backbone.keras.path')
def _one_source_of_a_keras_model(c: rule.View) -> Iterator[rule.Found]:
  backbone = c.task.model.backbone
  if backbone.type == 'keras' and backbone.keras.builder and (
      backbone.keras.path):
    yield (f'cannot be combined with path {backbone.keras.path!r}; give one '
           'of them')


@rule.reads('task.model.min_level', 'task.model.max_level')
def _levels(c: rule.View) -> Iterator[rule.Found]:
  if c.task.model.min_level > c.task.model.max_level:
    yield (f'must be <= max_level {c.task.model.max_level}, received '
           f'{c.task.model.min_level}')


RULES = (_channels_of_the_images, _a_backbone, _activations_that_are_read,
         _one_source_of_a_keras_model, _levels)
