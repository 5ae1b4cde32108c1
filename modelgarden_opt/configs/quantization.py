"""The `quantization:` block of a task."""

import dataclasses

from official.modeling import hyperparams

from modelgarden_opt.configs import block
from modelgarden_opt.configs.rules import quantization as rules
from modelgarden_opt.configs.schema import fields

PER_CHANNEL, PER_TENSOR = GRANULARITIES = ('per_channel', 'per_tensor')
# Fewer bits than 8 that files can hold, and which kernels have them.
LOW_BITS = 4
POINTWISE, ALL = LOW_BIT_POLICIES = ('pointwise', 'all')
MAX, MSE, LEARNED = WEIGHT_RANGES = ('max', 'mse', 'learned')
NEAREST, ADAROUND = ROUNDINGS = ('nearest', rules.ADAROUND)
NONE, DAMPEN, FREEZE = OSCILLATIONS = ('none', 'dampen', 'freeze')
_WEIGHT_BITS = {'range': '2 to 8', 'unit': 'bits'}
_ACTIVATION_BITS = {'range': '2 to 16', 'unit': 'bits'}
# Users register methods of their own.
_METHODS = {
    'choices': ('moving_average', 'min_max', 'percentile', 'mse', 'entropy'),
    'registry': 'modelgarden_opt.compression.quantization.observers:METHODS'}
_PERCENTILE = {'range': '(50, 100]', 'unit': 'percent'}
_STEP = {'range': '>= 0', 'unit': 'steps'}
_BATCHES = {'range': '>= 0', 'unit': 'batches'}


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
  num_bits_weight: int | None = fields.field(None, **_WEIGHT_BITS)
  num_bits_activation: int | None = fields.field(None, **_ACTIVATION_BITS)
  weight_granularity: str | None = fields.field(None, choices=GRANULARITIES)
  calibration_method: str | None = fields.field(None, **_METHODS)
  calibration_percentile: float | None = fields.field(None, **_PERCENTILE)
  weight_range: str | None = fields.field(None, choices=WEIGHT_RANGES)
  rounding: str | None = fields.field(None, choices=ROUNDINGS)


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
      `trainer.train_steps` is not read then, and masks are those of the end of
      their schedule.
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
  version: str = fields.field('v2', choices=('v2',))
  change_num_bits: bool = False
  num_bits_weight: int = fields.field(8, **_WEIGHT_BITS)
  num_bits_activation: int = fields.field(8, **_ACTIVATION_BITS)
  quantize_detection_decoder: bool = False
  quantize_detection_head: bool = False
  low_bit: str = fields.field(POINTWISE, choices=LOW_BIT_POLICIES)
  weight_granularity: str = fields.field(
      PER_CHANNEL, choices=GRANULARITIES)
  training: bool = True
  weight_range: str = fields.field(MAX, choices=WEIGHT_RANGES)
  rounding: str = fields.field(NEAREST, choices=ROUNDINGS)
  oscillation: str = fields.field(NONE, choices=OSCILLATIONS)
  oscillation_momentum: float = fields.field(0.01, range='(0, 1]')
  dampening_weight: float = fields.field(0.1, range='> 0')
  dampening_end_step: int | None = fields.field(
      None, range='>= 1', unit='steps')
  freezing_threshold: float = fields.field(0.02, range='(0, 1)')
  calibration_steps: int = fields.field(8, **_BATCHES)
  calibration_method: str = fields.field('moving_average', **_METHODS)
  calibration_percentile: float = fields.field(99.99, **_PERCENTILE)
  range_momentum: float = fields.field(0.99, range='[0, 1)')
  freeze_ranges_step: int | None = fields.field(None, **_STEP)
  freeze_batch_norm_step: int | None = fields.field(None, **_STEP)
  batch_norm_steps: int = fields.field(0, **_BATCHES)
  fold_batch_norm: bool = False
  cross_layer_equalization: bool = False
  bias_correction: bool = False
  rules: list[QuantizationRule] = dataclasses.field(default_factory=list)

  @property
  def rounds_adaptively(self) -> bool:
    """Whether any kernel is rounded by AdaRound."""
    return rules.rounds_adaptively(self)
