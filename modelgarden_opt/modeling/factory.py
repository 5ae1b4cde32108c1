"""From a float model to a compressed one, in one order."""

from collections.abc import Mapping
from collections.abc import Sequence

import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import rules
from modelgarden_opt.compression.quantization import technique
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import checkpoints
from modelgarden_opt.modeling import rewiring


def compress(
    model: tf_keras.Model,
    quantization: quantization_cfg.Quantization | None = None,
) -> tf_keras.Model:
  """Returns the compressed counterpart of a float model, with its weights.

  Args:
    model: A float classification or segmentation model of the Model Garden.
    quantization: The `quantization:` block; None leaves the model in float.

  Raises:
    UsageError: If a layer cannot be treated as configured, or a rule matches
      nothing.
  """
  techniques = []
  if quantization is not None:
    techniques.append(quantization_technique(quantization))
  if not techniques:
    return model
  plan = plan_lib.Plan(techniques)
  try:
    compressed = rewiring.rewire(model, plan)
    plan.assert_all_rules_matched()
  except ValueError as e:
    raise errors.UsageError(f'quantization: {e}') from e
  for quantizer in calibration.quantizers_of(compressed):
    quantizer.mode = calibration.Mode.QUANTIZE
  checkpoints.copy_variables(model, compressed)
  return compressed


def logits(outputs: tf.Tensor | Mapping[str, tf.Tensor]) -> tf.Tensor:
  """Returns the logits among the outputs of a model of any task."""
  return outputs['logits'] if isinstance(outputs, Mapping) else outputs


def quantization_technique(
    config: quantization_cfg.Quantization,
) -> technique.Quantization:
  """Returns the technique that a `quantization:` block describes.

  Its quantizers let everything pass until `compress` switches them on.
  """
  return technique.Quantization(
      num_bits_weight=config.num_bits_weight,
      num_bits_activation=config.num_bits_activation,
      weight_granularity=config.weight_granularity,
      range_momentum=config.range_momentum,
      rules=_rules(config.rules),
      # Building calls every layer once for its variables and shapes only.
      mode=calibration.Mode.PASS_THROUGH)


def _rules(
    configs: Sequence[quantization_cfg.QuantizationRule],
) -> list[rules.Rule]:
  """Returns the rules of a block; fields left at None override nothing."""
  result = []
  for config in configs:
    fields = config.as_dict()
    path, layer_type = fields.pop('path'), fields.pop('layer_type')
    parameters = {k: v for k, v in fields.items() if v is not None}
    result.append(rules.Rule(path, layer_type, parameters))
  return result
