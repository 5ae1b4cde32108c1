"""The `runtime:` block of an experiment."""

import dataclasses

from official.core import config_definitions as official_cfg


@dataclasses.dataclass
class Runtime(official_cfg.RuntimeConfig):
  """The Model Garden's runtime and a way to have replicas without GPUs.

  Attributes:
    num_logical_cpus: Replicas of `distribution_strategy: mirrored` on a
      machine without GPUs, each a logical device of its CPU; for tests and
      teaching, since they share the cores.
  """
  num_logical_cpus: int = 1

  def problems(self) -> list[str]:
    """Returns one line for every value that breaks a rule."""
    if self.num_logical_cpus < 1:
      return ['num_logical_cpus: must be >= 1, received '
              f'{self.num_logical_cpus}']
    if self.num_logical_cpus == 1:
      return []
    if self.num_gpus:
      return ['num_logical_cpus: cannot be combined with num_gpus '
              f'{self.num_gpus}; leave one of them out']
    if self.distribution_strategy != 'mirrored':
      return ['num_logical_cpus: needs distribution_strategy: mirrored, '
              f'received {self.distribution_strategy!r}']
    return []
