"""The `runtime:` block of an experiment."""

import dataclasses

from official.core import config_definitions as official_cfg

from modelgarden_opt.configs.schema import fields


@dataclasses.dataclass
class Runtime(official_cfg.RuntimeConfig):
  """The Model Garden's runtime, replicas without GPUs and steps in parts.

  Attributes:
    num_logical_cpus: Replicas of `distribution_strategy: mirrored` on a
      machine without GPUs, each a logical device of its CPU; for tests and
      teaching, since they share the cores.
    gradient_accumulation_steps: Parts of a training step. Each replica goes
      through its share of the global batch in so many parts, and the optimizer
      takes one step with the gradients of all: for batches that do not fit into
      memory. Batch normalization and activation ranges see part after part.
  """
  num_logical_cpus: int = fields.field(1, range='1 to 1024')
  gradient_accumulation_steps: int = fields.field(1, range='1 to 1024')
