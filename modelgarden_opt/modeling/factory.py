"""From a float model to a compressed one, in one order."""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import techniques
from modelgarden_opt.compression import internals
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.configs import block as block_cfg
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import compressed_model
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
  blocks = [block for block in blocks if block is not None]
  compressed = compress_with(model, make_techniques(blocks), filters)
  if compressed is not model and isinstance(
      compressed, compressed_model.Compressed):
    compressed.origin = compressed_model.Origin(
        {_technique_of(block): block for block in blocks}, dict(filters or {}))
  return compressed


def rebuild(
    model: tf_keras.Model,
    float_model: dict[str, Any],
    blocks: Mapping[str, Mapping[str, Any]],
    filters: architecture.Filters,
) -> tf_keras.Model:
  """Returns the compressed model that Keras has saved, without its weights.

  Args:
    model: The float model.
    float_model: What it was made from, as Keras serializes it.
    blocks: The fields of the blocks, by the techniques' names.
    filters: See `compress_with`.
  """
  made = [techniques.load(techniques.TECHNIQUES[name].block)(fields)
          for name, fields in blocks.items()]
  compressed = compress(model, *made, filters=filters)
  compressed.origin = dataclasses.replace(
      compressed.origin, float_model=float_model)
  return compressed


def _technique_of(block: block_cfg.Block) -> str:
  return next(name for name, technique in techniques.TECHNIQUES.items()
              if isinstance(block, techniques.load(technique.block)))


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
  plan = plan_lib.Plan(
      list(made.values()), filters, symmetric=is_symmetric(model))
  try:
    compressed = rewiring.rewire(model, plan)
    if 'pruning' in made:
      constraints.add_to_own_layers(compressed, made['pruning'])
    plan.assert_all_rules_matched()
  except NotImplementedError as e:  # Of a custom layer without `get_config`.
    raise errors.UsageError(f'model: {" ".join(str(e).split())}') from e
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
  return _neutral(
      model, plan_lib.Plan([], filters, symmetric=is_symmetric(model)), filters)


def with_symmetric_padding(model: tf_keras.Model) -> tf_keras.Model:
  """Returns a model whose strided convolutions pad the same on every side.

  What is made of that model by functions of this module pads so, too.

  Args:
    model: A float model; its variables are those of the result.

  Raises:
    UsageError: If it has a layer that cannot be rewired.
  """
  try:
    return _neutral(model, plan_lib.Plan([], symmetric=True), None)
  except ValueError as e:
    raise errors.UsageError(
        f'task.model.padding: {errors.without_calls(str(e))}') from e


def is_symmetric(model: tf_keras.Model) -> bool:
  """Whether a strided convolution of a model pads the same on every side."""
  return any(getattr(layer, 'symmetric', False)
             for layer in internals.layers_of(model))


def _neutral(
    model: tf_keras.Model,
    plan: plan_lib.Plan,
    filters: architecture.Filters | None,
) -> tf_keras.Model:
  twins = rewiring.rewire(model, plan)
  plan.assert_all_rules_matched()
  if not filters:
    checkpoints.copy_variables(model, twins)
  return twins


def logits(outputs: tf.Tensor | Mapping[str, tf.Tensor]) -> tf.Tensor:
  """Returns the logits among the outputs of a model of any task."""
  return outputs['logits'] if isinstance(outputs, Mapping) else outputs
