"""Quantization as a technique: parameters and rules to quantizers by path."""

from collections.abc import Iterable
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.compression import kernels
from modelgarden_opt.compression import rules as rules_lib
from modelgarden_opt.compression.quantization import kernel_quantizer
from modelgarden_opt.compression.quantization import observers
from modelgarden_opt.compression.quantization import oscillation as osc
from modelgarden_opt.compression.quantization import quantizers
from modelgarden_opt.configs import quantization as quantization_cfg

# With so many bits neighbouring integers are too close for oscillations between
# them to matter.
_STABLE_BITS = 8


class Quantization:
  """Makes the quantizers of one model."""

  name = 'quantization'

  def __init__(
      self,
      num_bits_weight: int = 8,
      num_bits_activation: int = 8,
      weight_granularity: str = quantization_cfg.PER_CHANNEL,
      range_momentum: float = 0.99,
      rules: Iterable[rules_lib.Rule] = (),
      mode: quantizers.Mode = quantizers.Mode.QUANTIZE,
      low_bit: str = '',
      *,
      calibration_method: str = 'moving_average',
      calibration_percentile: float = 99.99,
      weight_range: str = quantization_cfg.MAX,
      rounding: str = quantization_cfg.NEAREST,
      oscillation: osc.Settings | None = None,
  ):
    """Initializes the technique.

    Args:
      num_bits_weight: Bits of a kernel, 2 to 8.
      num_bits_activation: Bits of an activation, 2 to 16.
      weight_granularity: `per_channel` or `per_tensor` scales of kernels.
      range_momentum: Weight of the old range where it shrinks.
      rules: Overrides of the above (and of `enabled`) by path or layer type.
      mode: Mode in which the quantizers are made.
      low_bit: Which kernels `num_bits_weight` of 4 is for, see the block; empty
        for all. The others have 8 bits.
      calibration_method: Key of `observers.METHODS`.
      calibration_percentile: See `observers.Known`.
      weight_range: What the ranges of kernels are, see the block.
      rounding: How kernels are rounded before training, see the block.
      oscillation: What is done about oscillating weights of kernels with fewer
        than 8 bits, None for nothing.

    Raises:
      UsageError: If a calibration method is not registered.
    """
    rules = list(rules)
    for name in (calibration_method, *(
        rule.parameters.get('calibration_method') for rule in rules)):
      _assert_registered(name)
    self._oscillation, self._oscillates = oscillation, False
    self._num_bits_weight, self._low_bit = num_bits_weight, low_bit
    self._first = ''
    self._mode = mode
    self._momentum = range_momentum
    self._rules = rules_lib.Rules(
        rules,
        enabled=True,
        num_bits_weight=None,  # Unless a rule says so.
        num_bits_activation=num_bits_activation,
        weight_granularity=weight_granularity,
        calibration_method=calibration_method,
        calibration_percentile=calibration_percentile,
        weight_range=weight_range,
        rounding=rounding)

  def transform(
      self, kernel: kernels.Kernel) -> kernel_quantizer.KernelQuantizer | None:
    """Returns the quantizer of a kernel, None to leave it."""
    self._first = self._first or kernel.path
    parameters = self._rules.resolve(kernel.path, kernel.layer_type)
    if not parameters['enabled']:
      return None
    # TFLite's FULLY_CONNECTED wants one scale: with per-channel dense weights
    # the converter fails on the transpose it inserts.
    per_channel = (
        parameters['weight_granularity'] == quantization_cfg.PER_CHANNEL and
                   kernel.layer_type != 'Dense')
    num_bits, reason = parameters['num_bits_weight'], ''
    if num_bits is None:
      num_bits, reason = self._bits_of(kernel)
    tracked = num_bits < _STABLE_BITS
    self._oscillates |= tracked
    quantizer = kernel_quantizer.KernelQuantizer(
        num_bits, per_channel, reason, parameters['weight_range'],
        parameters['rounding'],
        self._oscillation if tracked else None)
    quantizer.mode = self._mode
    return quantizer

  def _bits_of(self, kernel: kernels.Kernel) -> tuple[int, str]:
    """Returns the bits of a kernel that no rule names, and why they are 8."""
    if self._num_bits_weight != quantization_cfg.LOW_BITS or not self._low_bit:
      return self._num_bits_weight, ''
    if self._low_bit == quantization_cfg.POINTWISE and not kernel.is_matrix:
      return 8, 'low_bit pointwise: no XNNPACK kernel of 4 bits'
    if kernel.path == self._first:
      return 8, 'first layer'
    return self._num_bits_weight, ''

  def activation_quantizer(
      self,
      path: str,
      layer_type: str,
      **known: Any,
  ) -> quantizers.ActivationQuantizer | None:
    """Returns the quantizer of an activation at `path`, None to leave it.

    Args:
      path: Path of the layer that computes the activation.
      layer_type: Class name of the float layer.
      **known: What is known of the range, see `ActivationQuantizer`.
    """
    parameters = self._rules.resolve(path, layer_type)
    if not parameters['enabled']:
      return None
    quantizer = quantizers.ActivationQuantizer(
        parameters['num_bits_activation'], self._momentum,
        calibration_method=parameters['calibration_method'],
        percentile=parameters['calibration_percentile'], **known)
    quantizer.mode = self._mode
    quantizer.path = path
    return quantizer

  def enabled(self, path: str, layer_type: str) -> bool:
    """Whether no rule leaves the layer at `path` alone."""
    return self._rules.resolve(path, layer_type)['enabled'] is not False

  def assert_all_rules_matched(self) -> None:
    """Raises `ValueError` if a rule matched no layer of the model.

    Also if nothing can be done about oscillations, because there are none.
    """
    self._rules.assert_all_matched()
    if self._oscillation and not self._oscillates:
      raise ValueError(
          f'oscillation: {self._oscillation.method!r} is for kernels of fewer '
          'than 8 bits, and the model has none; set num_bits_weight: 4 (with '
          'change_num_bits: true, or in a rule), or leave it out')


def _assert_registered(name: str | None) -> None:
  """Raises `UsageError` for what is no calibration method."""
  if name is not None and name not in observers.METHODS:
    raise errors.UsageError(
        f'quantization.calibration_method: {name!r} is not registered'
        f'{errors.nearest(str(name), observers.METHODS)}')


def make(config: quantization_cfg.Quantization) -> Quantization:
  """Returns the technique that a `quantization:` block describes.

  Its quantizers let everything pass until they are switched on: building a
  model calls every layer once, for its variables and shapes only.
  """
  return Quantization(
      num_bits_weight=config.num_bits_weight,
      num_bits_activation=config.num_bits_activation,
      weight_granularity=config.weight_granularity,
      range_momentum=config.range_momentum,
      rules=rules_lib.from_configs(config.rules),
      mode=quantizers.Mode.PASS_THROUGH,
      low_bit=config.low_bit,
      calibration_method=config.calibration_method,
      calibration_percentile=config.calibration_percentile,
      weight_range=config.weight_range,
      rounding=config.rounding,
      oscillation=_oscillation(config))


def _oscillation(config: quantization_cfg.Quantization) -> osc.Settings | None:
  if config.oscillation == quantization_cfg.NONE:
    return None
  return osc.Settings(
      method=config.oscillation,
      momentum=config.oscillation_momentum,
      dampening_weight=config.dampening_weight,
      dampening_end_step=config.dampening_end_step,
      freezing_threshold=config.freezing_threshold)
