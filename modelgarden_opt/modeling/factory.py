"""From a float model to a compressed one, in one order."""

from collections.abc import Mapping
from collections.abc import Sequence

import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import plan as plan_lib
from modelgarden_opt.compression import rules
from modelgarden_opt.compression.clustering import clustering_technique
from modelgarden_opt.compression.pruning import pruning_technique
from modelgarden_opt.compression.pruning import schedules
from modelgarden_opt.compression.quantization import quantization_technique
from modelgarden_opt.configs import clustering as clustering_cfg
from modelgarden_opt.configs import pruning as pruning_cfg
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import rewiring
from modelgarden_opt.modeling.state import architecture
from modelgarden_opt.modeling.state import checkpoints


def compress(
    model: tf_keras.Model,
    quantization: quantization_cfg.Quantization | None = None,
    pruning: pruning_cfg.Pruning | None = None,
    clustering: clustering_cfg.Clustering | None = None,
    filters: architecture.Filters | None = None,
) -> tf_keras.Model:
  """Returns the compressed counterpart of a float model, with its weights.

  Args:
    model: A float classification or segmentation model of the Model Garden.
    quantization: The `quantization:` block; None leaves the model in float.
    pruning: The `pruning:` block; None leaves the kernels dense.
    clustering: The `clustering:` block; None leaves the weights distinct.
    filters: See `compress_with`.

  Raises:
    UsageError: If a layer cannot be treated as configured, or a rule matches
      nothing.
  """
  return compress_with(model, techniques(
      quantization, pruning, clustering), filters)


def techniques(
    quantization: quantization_cfg.Quantization | None = None,
    pruning: pruning_cfg.Pruning | None = None,
    clustering: clustering_cfg.Clustering | None = None,
) -> dict[str, plan_lib.Technique]:
  """Returns the techniques that the blocks of a task describe, by name."""
  made = {}
  if quantization is not None:
    made['quantization'] = _quantization(quantization)
  if pruning is not None and not pruning.of_channels:
    made['pruning'] = _pruning(pruning)
  if clustering is not None:
    made['clustering'] = _clustering(clustering)
  return made


def compress_with(
    model: tf_keras.Model,
    made: Mapping[str, plan_lib.Technique],
    filters: architecture.Filters | None = None,
) -> tf_keras.Model:
  """Returns the counterpart of a float model under techniques, see `compress`.

  Args:
    model: The float model.
    made: What `techniques` returned.
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
    raise errors.UsageError(f'{"/".join(made) or "model"}: {e}') from e
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


def _quantization(
    config: quantization_cfg.Quantization,
) -> quantization_technique.Quantization:
  """Returns the technique that a `quantization:` block describes.

  Its quantizers let everything pass until `compress` switches them on.
  """
  return quantization_technique.Quantization(
      num_bits_weight=config.num_bits_weight,
      num_bits_activation=config.num_bits_activation,
      weight_granularity=config.weight_granularity,
      range_momentum=config.range_momentum,
      rules=_rules(config.rules),
      # Building calls every layer once for its variables and shapes only.
      mode=calibration.Mode.PASS_THROUGH)


def _pruning(config: pruning_cfg.Pruning) -> pruning_technique.Pruning:
  """Returns the technique that a `pruning:` block describes.

  Raises:
    UsageError: If a schedule is not registered.
  """
  names = [config.pruning_schedule, *(
      r.pruning_schedule for r in config.rules if r.pruning_schedule)]
  for name in names:
    if name not in schedules.SCHEDULES:
      raise errors.UsageError(
          f'task.pruning.pruning_schedule: {name!r} is not registered'
          f'{errors.nearest(name, schedules.SCHEDULES)}')
  return pruning_technique.Pruning(
      _rules(config.rules),
      policy=config.policy,
      sparsity_m_by_n=config.sparsity_m_by_n and tuple(config.sparsity_m_by_n),
      block_size=tuple(config.block_size),
      block_pooling_type=config.block_pooling_type,
      pruning_schedule=config.pruning_schedule,
      begin_step=config.begin_step,
      end_step=config.end_step,
      initial_sparsity=config.initial_sparsity,
      final_sparsity=config.target_sparsity,
      power=config.power,
      frequency=config.frequency)


def _clustering(
    config: clustering_cfg.Clustering) -> clustering_technique.Clustering:
  """Returns the technique that a `clustering:` block describes."""
  return clustering_technique.Clustering(
      _rules(config.rules),
      number_of_clusters=config.number_of_clusters,
      cluster_centroids_init=config.cluster_centroids_init,
      cluster_per_channel=config.cluster_per_channel,
      preserve_sparsity=config.preserve_sparsity)


def _rules(
    configs: Sequence[
        quantization_cfg.QuantizationRule | pruning_cfg.PruningRule |
        clustering_cfg.ClusteringRule],
) -> list[rules.Rule]:
  """Returns the rules of a block; fields left at None override nothing."""
  result = []
  for config in configs:
    fields = config.as_dict()
    path, layer_type = fields.pop('path'), fields.pop('layer_type')
    parameters = {k: v for k, v in fields.items() if v is not None}
    result.append(rules.Rule(path, layer_type, parameters))
  return result
