"""The techniques: their names, their order, and where each one is written.

Data, so that it can be read without TensorFlow. A technique is one folder of
`compression/`, one class of `configs/`, and one entry here; everything else
finds it by this table.
"""

import dataclasses
import importlib
from typing import Any


@dataclasses.dataclass(frozen=True)
class Technique:
  """One technique.

  Attributes:
    name: Name of its block in the configuration of a task.
    block: `module:class` of that block, a `configs.block.Block`.
    make: `module:function` that makes the technique of one model (a
      `compression.plan.Technique`) from the block, or None if the block has
      nothing that is done to single kernels.
    variable_prefix: First word of the names of variables that it adds to
      layers, with `_` at its end. Checkpoints with and without them fit.
    suffix: Suffix of the experiments that switch it on.
    stage: Kind of the pipeline stage that adds it.
    rules: `module:RULES`, what fields of the block obey together (see
      `configs.rules.rule`); empty for nothing.
  """
  name: str
  block: str
  make: str
  variable_prefix: str
  suffix: str
  stage: str
  rules: str = ''


# In the order in which a kernel passes their transforms.
TECHNIQUES: dict[str, Technique] = {
    technique.name: technique for technique in (
        Technique(
            name='pruning',
            block='modelgarden_opt.configs.pruning:Pruning',
            make='modelgarden_opt.compression.pruning.pruning_technique:make',
            variable_prefix='pruning_',
            suffix='_pruning',
            stage='prune',
            rules='modelgarden_opt.configs.rules.pruning:RULES'),
        Technique(
            name='clustering',
            block='modelgarden_opt.configs.clustering:Clustering',
            make='modelgarden_opt.compression.clustering.clustering_technique:'
                 'make',
            variable_prefix='clustering_',
            suffix='_clustering',
            stage='cluster',
            rules='modelgarden_opt.configs.rules.clustering:RULES'),
        Technique(
            name='quantization',
            block='modelgarden_opt.configs.quantization:Quantization',
            make='modelgarden_opt.compression.quantization.'
                 'quantization_technique:make',
            variable_prefix='quantized_',
            suffix='_qat',
            stage='qat',
            rules='modelgarden_opt.configs.rules.quantization:RULES'),
    )
}


def load(reference: str) -> Any:
  """Returns what `module:name` refers to, imported when it is needed."""
  module, _, name = reference.partition(':')
  return getattr(importlib.import_module(module), name)


def blocks_of(config: Any) -> dict[str, Any]:
  """Returns the blocks that the configuration of a task switches on, by name.

  Args:
    config: The configuration of a task; what it lacks is off.
  """
  found = {name: getattr(config, name, None) for name in TECHNIQUES}
  return {name: block for name, block in found.items() if block is not None}
