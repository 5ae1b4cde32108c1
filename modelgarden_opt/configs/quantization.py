"""The `quantization:` block of a task."""

import dataclasses

from official.modeling import hyperparams

from modelgarden_opt import errors
from modelgarden_opt.configs import block
from modelgarden_opt.configs import checks

PER_CHANNEL, PER_TENSOR = GRANULARITIES = ('per_channel', 'per_tensor')
WEIGHT_BITS = range(2, 9)
# Fewer bits than 8 that files can hold, and which kernels have them.
LOW_BITS = 4
POINTWISE, ALL = LOW_BIT_POLICIES = ('pointwise', 'all')
ACTIVATION_BITS = range(2, 17)
MAX, MSE, LEARNED = WEIGHT_RANGES = ('max', 'mse', 'learned')
NEAREST, ADAROUND = ROUNDINGS = ('nearest', 'adaround')
NONE, DAMPEN, FREEZE = OSCILLATIONS = ('none', 'dampen', 'freeze')


@dataclasses.dataclass
class QuantizationRule(hyperparams.Config):
  """Overrides the block for some layers; fields left out override nothing.

  Attributes:
    path: Glob over layer paths; `*` also crosses `/`. Paths look like
      `backbone/inverted_bottleneck_block_3/conv1` and `dense_0`.
    layer_type: Glob over class names of float layers, e.g. `DepthwiseConv2D`.
    enabled: False leaves the layers in float. A single op between quantized
      tensors still runs on integers in the file.
    num_bits_weight: As in the block.
    num_bits_activation: As in the block.
    weight_granularity: As in the block.
    calibration_method: As in the block.
    calibration_percentile: As in the block.
    weight_range: As in the block.
    rounding: As in the block.
  """
  path: str = '*'
  layer_type: str = '*'
  enabled: bool | None = None
  num_bits_weight: int | None = None
  num_bits_activation: int | None = None
  weight_granularity: str | None = None
  calibration_method: str | None = None
  calibration_percentile: float | None = None
  weight_range: str | None = None
  rounding: str | None = None


@dataclasses.dataclass
class Quantization(block.Block):
  """Quantization; the first seven fields are the Model Garden's.

  Attributes:
    version: Only `v2` exists in open source.
    change_num_bits: Whether the numbers of bits below are used (Model Garden
      semantics); False means 8 and 8.
    num_bits_weight: Bits of kernels, 2 to 8; files hold 8 and 4.
    num_bits_activation: Bits of activations, 2 to 16; int8 files hold 8.
    quantize_detection_decoder: False; detection is not supported yet.
    quantize_detection_head: Likewise.
    low_bit: Which kernels `num_bits_weight: 4` is for: `pointwise` for dense
      layers and convolutions of 1x1 pixels with stride 1, which cost no time in
      XNNPACK; `all` for every kernel but the first one. The others have 8 bits.
      A rule that names bits wins.
    weight_granularity: `per_channel` or `per_tensor` scales of convolution
      kernels. The dense head always has one scale.
    training: False for quantization without training: a run loads the float
      checkpoint, measures the ranges, evaluates once and is complete.
      `trainer.train_steps` is not read then.
    weight_range: What a kernel's range is: `max`, its largest magnitude in
      every step; `mse`, the fraction of it with the smallest squared error
      when training starts, constant from then on; `learned`, trained from
      there (LSQ, arXiv:1902.08153).
    rounding: How kernels are rounded before step 1: to the `nearest` values, or
      (`adaround`, arXiv:2004.10568) to those that change the output of their
      layer least on the batches of calibration. Training rounds to nearest.
    oscillation: What is done about weights of kernels with fewer than 8 bits
      that oscillate between two integers: `none`; `dampen`, a loss draws
      weights to their integers; `freeze`, such weights become constant
      integers (arXiv:2203.11086).
    oscillation_momentum: Weight of a step in the frequencies of oscillations,
      in (0, 1].
    dampening_weight: Weight of the loss of `dampen`, > 0.
    dampening_end_step: Step at which it is reached, by a cosine from 0; needed
      by `dampen`.
    freezing_threshold: Oscillations per step above which `freeze` freezes a
      weight, in (0, 1).
    calibration_steps: Batches of un-augmented training data from which the
      activation ranges are measured before step 1; 0 leaves them at -6 to 6.
    calibration_method: What sets a range: `moving_average`, the mean of the
      batches' extremes; `min_max`, the extremes of all batches; `percentile`;
      `mse`, the range with the least squared error; `entropy`, the one with the
      least KL divergence (TensorRT's); or one that a module registered.
    calibration_percentile: Of `percentile`: percent of the values that the
      upper end covers, above 50 and up to 100; a lower end that is not known
      leaves out as many.
    range_momentum: Weight of the old range where an activation range shrinks,
      in [0, 1). It grows at once to whatever a batch holds.
    freeze_ranges_step: Step from which activation ranges are constant; None
      for never.
    freeze_batch_norm_step: Step from which batch normalization uses its moving
      statistics and leaves them alone, where it is folded also its scale; None
      for never.
    batch_norm_steps: Batches of training data from which batch normalization is
      estimated after the last training step, with quantized weights and
      activations; 0 keeps its moving averages.
    fold_batch_norm: Whether the scales of batch normalizations are moved into
      kernels before ranges are measured. Files of `per_tensor` kernels have one
      scale a kernel then, until training changes the normalizations:
      `freeze_batch_norm_step: 0` keeps it from that.
    cross_layer_equalization: Whether channels are scaled, before ranges are
      measured, so that they have equal ranges in the kernel that makes them and
      in the one that reads them. Needs activations that scale with their input
      (relu; not relu6, hard_swish). Folds batch normalizations as well.
    bias_correction: Whether the mean error of every channel, on the batches of
      calibration, is subtracted from its bias before step 1.
    rules: Overrides by path or layer type; the last match wins.
  """
  version: str = 'v2'
  change_num_bits: bool = False
  num_bits_weight: int = 8
  num_bits_activation: int = 8
  quantize_detection_decoder: bool = False
  quantize_detection_head: bool = False
  low_bit: str = POINTWISE
  weight_granularity: str = 'per_channel'
  training: bool = True
  weight_range: str = MAX
  rounding: str = NEAREST
  oscillation: str = NONE
  oscillation_momentum: float = 0.01
  dampening_weight: float = 0.1
  dampening_end_step: int | None = None
  freezing_threshold: float = 0.02
  calibration_steps: int = 8
  calibration_method: str = 'moving_average'
  calibration_percentile: float = 99.99
  range_momentum: float = 0.99
  freeze_ranges_step: int | None = None
  freeze_batch_norm_step: int | None = None
  batch_norm_steps: int = 0
  fold_batch_norm: bool = False
  cross_layer_equalization: bool = False
  bias_correction: bool = False
  rules: list[QuantizationRule] = dataclasses.field(default_factory=list)

  @property
  def rounds_adaptively(self) -> bool:
    """Whether any kernel is rounded by AdaRound."""
    return ADAROUND in (self.rounding, *(rule.rounding for rule in self.rules))

  def problems(self, train_steps: int) -> list[str]:
    found = []
    if self.version != 'v2':
      found.append(f"version: must be 'v2', received {self.version!r}")
    for name in ('quantize_detection_decoder', 'quantize_detection_head'):
      if getattr(self, name):
        found.append(f'{name}: detection is not supported yet, received true; '
                     'leave it false')
    if not self.change_num_bits:
      for name in ('num_bits_weight', 'num_bits_activation'):
        if getattr(self, name) != 8:
          found.append(f'{name}: is used only with change_num_bits: true, '
                       f'received {getattr(self, name)}')
    if self.low_bit not in LOW_BIT_POLICIES:
      found.append(
          f'low_bit: {self.low_bit!r} is not a policy'
          f'{errors.nearest(str(self.low_bit), LOW_BIT_POLICIES)}')
    least = 0 if self.training else 1
    if self.calibration_steps < least:
      found.append(f'calibration_steps: must be >= {least}'
                   f'{"" if self.training else " with training: false"}, '
                   f'received {self.calibration_steps}')
    if not self.calibration_steps:
      found += [
          f'{name}: needs calibration_steps >= 1, received 0: errors are '
          'measured on calibrated ranges' for name, wanted in (
              ('bias_correction', self.bias_correction),
              ('rounding: adaround', self.rounds_adaptively)) if wanted]
    if self.batch_norm_steps < 0:
      found.append(
          f'batch_norm_steps: must be >= 0, received {self.batch_norm_steps}')
    if not 0.0 <= self.range_momentum < 1.0:
      found.append('range_momentum: must lie in [0, 1), received '
                   f'{self.range_momentum}')
    for name in ('freeze_ranges_step', 'freeze_batch_norm_step'):
      if getattr(self, name) is not None and getattr(self, name) < 0:
        found.append(f'{name}: must be >= 0 or null, received '
                     f'{getattr(self, name)}')
    found += self._oscillation_problems(train_steps)
    found += _shared_problems(self, '')
    for index, rule in enumerate(self.rules):
      found += _shared_problems(rule, f'rules[{index}].')
    return found

  def _oscillation_problems(self, train_steps: int) -> list[str]:
    """Checks the fields of the chosen method; others are not read."""
    found = checks.unless_one_of('oscillation', self.oscillation, OSCILLATIONS)
    if self.oscillation == NONE or found:
      return found
    if not 0.0 < self.oscillation_momentum <= 1.0:
      found.append('oscillation_momentum: must lie in (0, 1], received '
                   f'{self.oscillation_momentum}')
    if self.oscillation == FREEZE:
      if not 0.0 < self.freezing_threshold < 1.0:
        found.append('freezing_threshold: must lie in (0, 1), received '
                     f'{self.freezing_threshold}')
      return found
    if self.dampening_weight <= 0.0:
      found.append(f'dampening_weight: must be > 0, received '
                   f'{self.dampening_weight}')
    end = self.dampening_end_step
    if end is None or end < 1:
      found.append('dampening_end_step: must be >= 1, such as the last step of '
                   f'training, received {end}')
    elif end > train_steps:
      found.append(f'dampening_end_step: {end} is after trainer.train_steps '
                   f'{train_steps}, so dampening_weight would not be reached')
    return found


def _shared_problems(config: Quantization | QuantizationRule, prefix: str):
  """Checks the fields that the block and its rules share."""
  found = []
  for name, choices in (('num_bits_weight', WEIGHT_BITS),
                        ('num_bits_activation', ACTIVATION_BITS)):
    value = getattr(config, name)
    if value is not None and value not in choices:
      found.append(f'{prefix}{name}: must lie in {choices[0]} to '
                   f'{choices[-1]}, received {value}')
  value = config.calibration_percentile
  if value is not None and not 50.0 < value <= 100.0:
    found.append(f'{prefix}calibration_percentile: must be above 50 and at '
                 f'most 100, received {value}')
  for name, choices in (('weight_granularity', GRANULARITIES),
                        ('weight_range', WEIGHT_RANGES),
                        ('rounding', ROUNDINGS)):
    value = getattr(config, name)
    if value is not None:
      found += checks.unless_one_of(prefix + name, value, choices)
  return found
