"""From a float model to a compressed one, in one order."""

from collections.abc import Iterable
from collections.abc import Mapping

import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import techniques
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.configs import block as block_cfg
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import rewiring
from modelgarden_opt.modeling.state import architecture
from modelgarden_opt.modeling.state import checkpoints


def compress(
    model: tf_keras.Model,
    *blocks: block_cfg.Block | None,
    filters: architecture.Filters | None = None,
) -> tf_keras.Model:
  """Returns the compressed counterpart of a float model, with its weights.

  Args:
    model: A float model of the Model Garden, or of its blocks and of Keras
      layers.
    *blocks: The blocks of a task, one for each technique, in any order; None
      for a technique that is off.
    filters: See `compress_with`.

  Raises:
    UsageError: If a layer cannot be treated as configured, or a rule matches
      nothing.
  """
  return compress_with(model, make_techniques(blocks), filters)


def make_techniques(
    blocks: Iterable[block_cfg.Block | None],
) -> dict[str, plan_lib.Technique]:
  """Returns the techniques that the blocks of a task describe, by name."""
  made = {}
  for name, technique in techniques.TECHNIQUES.items():
    kind = techniques.load(technique.block)
    for block in blocks:
      if isinstance(block, kind):
        made[name] = techniques.load(technique.make)(block)
  return {name: technique for name, technique in made.items() if technique}


def compress_with(
    model: tf_keras.Model,
    made: Mapping[str, plan_lib.Technique],
    filters: architecture.Filters | None = None,
) -> tf_keras.Model:
  """Returns the counterpart of a float model under techniques, see `compress`.

  Args:
    model: The float model.
    made: What `make_techniques` returned.
    filters: Numbers of filters that differ from the float model's, whose
      weights are not copied then.

  Raises:
    UsageError: If a layer cannot be treated as configured, or a rule matches
      nothing.
  """
  if not made and not filters:
    return model
  plan = plan_lib.Plan(list(made.values()), filters)
  try:
    compressed = rewiring.rewire(model, plan)
    if 'pruning' in made:
      constraints.add_to_own_layers(compressed, made['pruning'])
    plan.assert_all_rules_matched()
  except ValueError as e:
    message = errors.without_calls(str(e))
    if not isinstance(e, errors.UsageError):  # Which names its field itself.
      message = f'{"/".join(made) or "model"}: {message}'
    raise errors.UsageError(message) from e
  for quantizer in calibration.quantizers_of(compressed):
    quantizer.mode = calibration.Mode.QUANTIZE
  if not filters:
    checkpoints.copy_variables(model, compressed)
  return compressed


def neutral(
    model: tf_keras.Model, filters: architecture.Filters | None = None
) -> tf_keras.Model:
  """Returns a model of twins that compute what the float model computes.

  Args:
    model: The float model.
    filters: See `compress_with`.
  """
  plan = plan_lib.Plan([], filters)
  twins = rewiring.rewire(model, plan)
  plan.assert_all_rules_matched()
  if not filters:
    checkpoints.copy_variables(model, twins)
  return twins


def logits(outputs: tf.Tensor | Mapping[str, tf.Tensor]) -> tf.Tensor:
  """Returns the logits among the outputs of a model of any task."""
  return outputs['logits'] if isinstance(outputs, Mapping) else outputs
