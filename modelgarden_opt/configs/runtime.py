"""The `runtime:` block of an experiment."""

import dataclasses

from official.core import config_definitions as official_cfg

from modelgarden_opt.configs.schema import fields


@dataclasses.dataclass
class Runtime(official_cfg.RuntimeConfig):
  """The Model Garden's runtime and a way to have replicas without GPUs.

  Attributes:
    num_logical_cpus: Replicas of `distribution_strategy: mirrored` on a
      machine without GPUs, each a logical device of its CPU; for tests and
      teaching, since they share the cores.
  """
  num_logical_cpus: int = fields.field(1, range='1 to 1024')
