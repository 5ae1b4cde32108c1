"""Rules of the `quantization:` block."""

from collections.abc import Iterator

from modelgarden_opt.configs.rules import rule

ADAROUND = 'adaround'
_BLOCK = 'task.quantization'


def rounds_adaptively(block) -> bool:
  """Whether any kernel is rounded by AdaRound."""
  return ADAROUND in (
      block.rounding, *(entry.rounding for entry in block.rules or ()))


@rule.reads(f'{_BLOCK}.quantize_detection_decoder')
def _what_there_is(c: rule.View) -> Iterator[rule.Found]:
  for name in ('quantize_detection_decoder', 'quantize_detection_head'):
    if getattr(c.task.quantization, name):
      yield f'{_BLOCK}.{name}', (
          'detection is not supported yet, received true; leave it false')


@rule.reads(f'{_BLOCK}.change_num_bits', f'{_BLOCK}.num_bits_weight',
            f'{_BLOCK}.num_bits_activation')
def _bits_that_are_used(c: rule.View) -> Iterator[rule.Found]:
  block = c.task.quantization
  if block.change_num_bits:
    return
  for name in ('num_bits_weight', 'num_bits_activation'):
    if getattr(block, name) != 8:
      yield f'{_BLOCK}.{name}', (
          'is used only with change_num_bits: true, received '
          f'{getattr(block, name)}')


@rule.reads(f'{_BLOCK}.calibration_steps', f'{_BLOCK}.training',
            f'{_BLOCK}.rounding', f'{_BLOCK}.bias_correction',
            f'{_BLOCK}.rules')
def _batches_to_calibrate(c: rule.View) -> Iterator[rule.Found]:
  block = c.task.quantization
  if block.calibration_steps:
    return
  if not block.training:
    yield 'must be >= 1 with training: false, received 0'
  for name, wanted in (('bias_correction', block.bias_correction),
                       ('rounding: adaround', rounds_adaptively(block))):
    if wanted:
      yield f'{_BLOCK}.{name}', (
          'needs calibration_steps >= 1, received 0: errors are measured on '
          'calibrated ranges')


@rule.reads(f'{_BLOCK}.dampening_end_step', f'{_BLOCK}.oscillation')
def _dampening_has_an_end(c: rule.View) -> Iterator[rule.Found]:
  block = c.task.quantization
  if block.oscillation == 'dampen' and block.dampening_end_step is None:
    yield ('must be >= 1, such as the last step of training, with oscillation: '
           'dampen, received null')


@rule.reads(f'{_BLOCK}.dampening_end_step', f'{_BLOCK}.oscillation',
            'trainer.train_steps')
def _dampening_ends_before_training(c: rule.View) -> Iterator[rule.Found]:
  block, steps = c.task.quantization, c.trainer.train_steps
  if block.oscillation == 'dampen' and (block.dampening_end_step or 0) > steps:
    yield (f'{block.dampening_end_step} is after trainer.train_steps {steps}, '
           'so dampening_weight would not be reached')


@rule.reads('runtime.mixed_precision_dtype', f'{_BLOCK}.training')
def _float32_ranges(c: rule.View) -> Iterator[rule.Found]:
  dtype = c.runtime.mixed_precision_dtype
  if dtype not in (None, 'float32'):
    yield (f'{dtype!r} cannot be combined with quantization: it rounds more '
           'coarsely than the integers that are trained for; use null or '
           'float32')


@rule.reads('task.model', f'{_BLOCK}.training')
def _models_with_twins(c: rule.View) -> Iterator[rule.Found]:
  model = c.task.model
  decoder, head = model.decoder, model.head
  if decoder is not None and decoder.type not in ('aspp', 'identity'):
    yield 'task.model.decoder.type', (
        f'{decoder.type!r} cannot be quantized; aspp and identity can')
  if model.mask_scoring_head is not None:
    yield 'task.model.mask_scoring_head', 'cannot be quantized; use null'
  if head is not None and head.feature_fusion == 'panoptic_fpn_fusion':
    yield 'task.model.head.feature_fusion', (
        "'panoptic_fpn_fusion' cannot be quantized (its group normalization "
        'has no integer op in TFLite); deeplabv3plus, '
        'deeplabv3plus_sum_to_merge, pyramid_fusion and null can')


RULES = (_what_there_is, _bits_that_are_used, _batches_to_calibrate,
         _dampening_has_an_end, _dampening_ends_before_training,
         _float32_ranges, _models_with_twins)
